"""A suite whose attack comes from a library that is not there is refused before anything runs."""

import sys

import pytest

from harness.cli import main
from harness.plugins.registry import _load

SUITE = """
name: a
datasets: [mini]
metrics: [psnr]
attacks: ['NAME']
budgets: {linf: [8/255]}
"""


@pytest.mark.parametrize("name", ["torchattacks:PGD", "pyautoattack:apgd-ce", "art:SquareAttack"])
def test_a_missing_library_is_told_at_validate(name, tmp_path, capsys, monkeypatch):
    library = name.partition(":")[0]
    _load.cache_clear()
    for module in [m for m in sys.modules if m.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.replace("NAME", name))
    with pytest.raises(SystemExit) as end:
        main(["validate", str(suite)])
    said = capsys.readouterr().err
    assert end.value.code == 2
    start = (
        f"error: {suite}:5:11: attacks.0.name: attack '{name}': {library} is not installed. Get it with: pip install "
    )
    assert said.startswith(start) and said.count("\n") == 1
