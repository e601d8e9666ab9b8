"""Weights that would fit but for a prefix: it is found, told with the command that mends it, and that command does."""

import shlex

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harness.cli import main
from harness.plugins.weights.locate import WeightFile, WeightsError, check, sha256_of
from harness.plugins.weights.prefixes import prefixes_that_fit


class Wrapped(nn.Module):
    """A metric as people write one: its network under a name, and a buffer of its own or none."""

    def __init__(self, *, buffer=False):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 1))
        if buffer:
            self.register_buffer("mean", torch.zeros(3))


def saved(tmp_path, tensors):
    file = tmp_path / "with space.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, file)
    return WeightFile("mine", file, sha256_of(file))


def same_tensors(one, other):
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("{}", ("", "net.")),
        ("module.{}", ("module.", "net.")),
        ("module.net.{}", ("module.", "")),
        ("x.net.{}", ("x.", "")),
    ],
)
def test_the_command_in_the_message_makes_them_fit(tmp_path, name, prefixes, monkeypatch):
    module = Wrapped()
    own = {name.format(key): tensor for key, tensor in module.net.state_dict().items()}
    shapes = [{key: tuple(one.shape) for key, one in named.items()} for named in (module.state_dict(), own)]
    assert prefixes_that_fit(*shapes) == prefixes
    with pytest.raises(WeightsError, match="none of its 4 names is expected") as error:
        check(module, saved(tmp_path, own))
    command = shlex.split(str(error.value).rpartition("A copy with these names: ")[2])
    assert command[0] == "robustiqa"
    for code in (0, 2):  # the second time the copy is there, and stays as it is
        with pytest.raises(SystemExit) as end:
            main(command[1:])
        assert (end.value.code or 0) == code
    copy = tmp_path / "with space-renamed.safetensors"
    check(module, WeightFile("mine", copy, sha256_of(copy)))
    same_tensors(load_file(copy), module.state_dict())


def test_what_stays_missing_is_told_and_other_shapes_are_no_prefix(tmp_path):
    module = Wrapped(buffer=True)
    with pytest.raises(WeightsError, match=r"all are with 'net\.' in front .*though 1 of the metric's 5 stay missing"):
        check(module, saved(tmp_path, module.net.state_dict()))
    other = {key: torch.zeros(7) for key in module.net.state_dict()}
    with pytest.raises(WeightsError, match=r"is missing.*Build the metric"):
        check(module, saved(tmp_path, other))


def test_a_checkpoint_of_torchs_is_converted_from_the_entry_that_is_named(tmp_path, capsys):
    module = Wrapped()
    torch.save({"epoch": 3, "state_dict": module.net.state_dict()}, tmp_path / "mine.pth")
    command = ["weights", "convert", str(tmp_path / "mine.pth"), "--out", str(tmp_path / "mine.safetensors")]
    for more, code in (([], 2), (["--key", "state_dict", "--add", "net."], 0)):
        with pytest.raises(SystemExit) as end:
            main([*command, *more])
        assert (end.value.code or 0) == code
    assert "its tensors are in 'state_dict'. Give --key state_dict." in capsys.readouterr().err
    same_tensors(load_file(tmp_path / "mine.safetensors"), module.state_dict())
