"""A plugin file imports modules beside it: they run, count as its code, and hide nothing that is installed."""

import json
import os
import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.plugins.model import PluginError
from harness.plugins.registry import Registry

METRIC = """
from harness.contracts import Metric, register
{imports}

@register("{name}")
class Mine(Metric):
    higher_is_better = False

    def score(self, reference, dist):
        {late}
        return {value} * (dist - reference).abs().flatten(1).mean(1)
"""


@pytest.fixture
def plugin(tmp_path):
    def write(folder, name, imports="", value="1", late="pass", **siblings):
        place = tmp_path / folder
        for sibling, text in siblings.items():
            file = place / f"{sibling.replace('__in__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        file = place / "mine.py"
        file.write_text(METRIC.format(imports=imports, name=name, late=late, value=value))
        return file

    return write


def test_modules_and_packages_beside_it_are_imported_and_count_as_its_code(plugin):
    imports = "from sib_factor import FACTOR\nimport sib_package.inside"
    siblings = {"sib_factor": "from sib_deeper import FACTOR", "sib_deeper": "FACTOR = 2"}
    siblings |= {"sib_package__in____init__": "", "sib_package__in__inside": "MORE = 3", "sib_late": "LAST = 5"}
    value = "FACTOR * sib_package.inside.MORE * sib_late.LAST"
    file = plugin("a", "sib-one", imports, value, "import sib_late", **siblings)
    registry = Registry([file])
    metric = registry.metric("sib-one").build({})
    import torch

    assert metric.score(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)).item() == pytest.approx(15)
    counted = {one.name for one in registry.metric("sib-one").files}
    assert {"mine.py", "sib_factor.py", "sib_deeper.py", "inside.py", "sib_late.py"} <= counted


def test_what_is_installed_is_not_hidden_and_the_reader_is_told(plugin, capsys):
    registry = Registry(
        [plugin("b", "sib-two", "import colorsys", "colorsys.ONE_THIRD", colorsys="ONE_THIRD = 'mine'")]
    )
    assert registry.metric("sib-two").cls.__module__ in sys.modules
    assert abs(sys.modules["colorsys"].ONE_THIRD - 1 / 3) < 1e-9
    said = capsys.readouterr().err
    assert "imports colorsys, which is" in said and "Rename it" in said


def test_two_files_with_modules_of_one_name_are_refused(plugin):
    first = plugin("c", "sib-three", "import sib_same", sib_same="A = 1")
    second = plugin("d", "sib-four", "import sib_same", sib_same="A = 2")
    with pytest.raises(UserError, match=r"imports sib_same, and so does another plugin file.*rename one of the two"):
        Registry([first, second])


def test_a_relative_import_says_what_to_write(plugin):
    with pytest.raises(PluginError, match=r"line 3: ImportError: .*imported by its bare name: `import helper`"):
        Registry([plugin("e", "sib-five", "from .helper import x", helper="x = 1")])


def test_workers_import_them_and_a_changed_one_is_computed_again(plugin, tmp_path):
    file = plugin("f", "sib-six", "from sib_six import FACTOR", "FACTOR", sib_six="FACTOR = 2")
    suite = {"name": "six", "datasets": ["mini"], "metrics": ["sib-six"], "tables": ["srocc"], "limit": 3, "slice": 2}
    (tmp_path / "six.json").write_text(json.dumps(suite))  # JSON is YAML

    def run():
        command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "six.json", "--workers", "2"]
        command += ["--no-probes", "--plugin", str(file)]
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # or the folder would be on the path anyway
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "2 blocks run" in run()
    assert "nothing left to run" in run()
    file.with_name("sib_six.py").write_text("FACTOR = 3")
    assert "2 blocks run" in run()
