"""A name that was taken back is refused with what to write instead, wherever it is asked for."""

import pytest
from PIL import Image

from harness.cli import main
from harness.errors import UserError
from harness.plugins.model import PluginError
from harness.plugins.registry import Registry
from harness.plugins.retired import retired_in
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

MINE = """
from harness.contracts import Metric, register

@register("vif")
class Mine(Metric):
    higher_is_better = True
    def score(self, reference, dist):
        return dist.flatten(1).mean(1)
"""


def assert_both_choices(text):
    assert "there is no metric 'vif' any more" in text and "'vifp'" in text and "wavelet domain" in text
    assert "Did you mean" not in text and "Traceback" not in text


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code, *capsys.readouterr()


def test_suites_refuse_it_and_say_where():
    text = "name: a\ndatasets: [mini]\nmetrics: [psnr, vif]\n"
    with pytest.raises(UserError) as caught:
        validate(parse_text(text, "suite.yaml"), Registry())
    assert_both_choices(str(caught.value))
    assert str(caught.value).startswith("suite.yaml:3:17: ")


@pytest.mark.parametrize("verb", ["show vif", "score {0} {0} --metric vif", "doctor --metric vif", "list metrics"])
def test_verbs_say_it(verb, tmp_path, capsys):
    image = tmp_path / "a.png"
    Image.new("RGB", (48, 48)).save(image)
    code, out, err = said(capsys, *(part.format(image) for part in verb.split()))
    if verb.startswith("list"):
        assert code == 0 and "wavelet domain" in out
        assert '"vif"' not in said(capsys, "list", "metrics", "--json")[1]
    else:
        assert code == 2
        assert_both_choices(" ".join(err.split()))


def test_a_plugin_of_ones_own_may_have_the_name(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    registry = Registry([file])
    assert registry.metric("vif").cls.__name__ == "Mine" and "vif" not in registry.retired("metrics")
    with pytest.raises(PluginError, match="any more"):
        Registry().metric("vif")


def test_names_are_read_without_importing():
    text = 'import nothing_of_the_kind\n\n@register("new")\n@retired("old", cure="Write new. "\n    "It is.")\nclass New: ...\n'
    assert list(retired_in(text)) == [("old", "Write new. It is.")]
