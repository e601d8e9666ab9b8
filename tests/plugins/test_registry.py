"""Finding plugins: shipped, from files, from installed packages; what cannot be used is refused by name."""

import importlib
import json
import subprocess
import sys
import textwrap

import pytest

from harness.plugins.model import PluginError
from harness.plugins.registry import Registry

METRIC = """
from harness.contracts import Metric, register

@register("{name}")
class Mine(Metric):
    \"\"\"Mine.\"\"\"
    higher_is_better = True
    def __init__(self, *, gain: float = 2.0): super().__init__()
    def score(self, reference, dist): return dist.flatten(1).mean(1)
"""


@pytest.fixture
def plugin_file(tmp_path):
    def write(text, name="mine.py"):
        file = tmp_path / name
        file.write_text(textwrap.dedent(text))
        return file

    return write


def test_shipped_names_are_known_without_importing_them():
    registry = Registry()
    assert {"psnr", "ssim", "birqa", "birqa-tiny"} <= set(registry.names("metrics"))
    assert {"fgsm", "pgd", "noise", "restore"} <= set(registry.names("attacks"))
    assert "flip" in registry.names("purifiers")
    assert {"mini", "mini_2afc", "tid2013"} <= set(registry.names("datasets"))


def test_every_shipped_name_loads_as_what_it_says():
    registry = Registry()
    for kind in ("metrics", "attacks", "purifiers", "datasets", "recipes"):
        for name in registry.names(kind):
            plugin = registry.get(kind, name)
            assert plugin.name == name and plugin.cls.__doc__, name
            assert all(p.annotation is not None for p in plugin.parameters())


def test_presets_are_defaults_that_can_be_overridden(plugin_file):
    text = METRIC.format(name="one").replace('@register("one")', '@register("two", gain=3.0)\n@register("one")')
    registry = Registry([plugin_file(text)])
    assert [registry.metric(n).parameters()[0].default for n in ("one", "two")] == [2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", r"line 1: ZeroDivisionError"),
        ("def broken(:", r"line 1: SyntaxError"),
        ("import not_installed_anywhere", r"ModuleNotFoundError.*not_installed_anywhere"),
        ("x = 1", r"registers nothing"),
        (METRIC.format(name="psnr"), r"'psnr' is already taken by metrics_zoo"),
        ("from harness.contracts import register\n@register('odd')\nclass Odd: pass", r"Odd is registered but is no"),
    ],
)
def test_files_that_cannot_be_used(plugin_file, text, message):
    with pytest.raises(PluginError, match=message) as caught:
        Registry([plugin_file(text)])
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    higher_is_better = True\n", "", r"class Mine must say higher_is_better = True or False"),
        ("*, gain: float = 2.0", "gain: float = 2.0", r"class Mine must have keyword-only parameters"),
    ],
)
def test_classes_that_break_the_contract_are_refused_by_name_and_origin(plugin_file, old, new, message):
    registry = Registry([plugin_file(METRIC.format(name="odd").replace(old, new))])
    with pytest.raises(PluginError, match=r"metric 'odd' from .*mine\.py: " + message):
        registry.metric("odd")
    assert registry.metric("psnr") is not None


def test_a_missing_file_and_an_unknown_name(tmp_path):
    with pytest.raises(PluginError, match="no such file"):
        Registry([tmp_path / "none.py"])
    with pytest.raises(PluginError, match=r"unknown data set 'minni'. Did you mean 'mini'\?"):
        Registry().source("datasets", "minni")


def test_editing_a_plugin_file_changes_identity(plugin_file):
    one = Registry([plugin_file(METRIC.format(name="m"), "a.py")]).metric("m").code
    two = Registry([plugin_file(METRIC.format(name="m") + "\n# edited\n", "b.py")]).metric("m").code
    assert one and two and one != two


def test_entry_points_are_found_and_can_be_switched_off(plugin_file, tmp_path, monkeypatch):
    plugin_file(METRIC.format(name="outside"), "outside_metric.py")
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[robustiqa.metrics]\noutside = outside_metric:Mine\n[robustiqa.attacks]\ngone = no_such_module:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry = Registry()
    assert registry.source("metrics", "outside").origin == "outside (outside_metric:Mine)"
    assert registry.metric("outside").build({}) is not None
    with pytest.raises(PluginError, match=r"'gone' from outside \(no_such_module:X\) cannot be imported"):
        registry.attack("gone")
    assert registry.attack("fgsm") is not None, "the rest works"
    monkeypatch.setenv("ROBUSTIQA_NO_PLUGINS", "1")
    assert "outside" not in Registry().names("metrics")


BRIDGE = """
import types
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library
from harness.contracts import Metric

@bridge("mylib", "metrics", library="pytest", install="pip install pytest")
class MyLib(Bridge):
    \"\"\"Moments of pixels.\"\"\"
    def names(self): return ["mean", "median"]
    def load(self, name):
        if name not in self.names():
            raise NoSuchNameError(name)
        import_library("pytest")
        class Moment(Metric):
            \"\"\"A moment.\"\"\"
            higher_is_better = True
            def __init__(self, *, gain: float = 2.0): super().__init__()
            def score(self, reference, dist): return getattr(dist.flatten(1), name)(1)
        return Moment
"""


def test_a_bridge_in_one_file(plugin_file):
    registry = Registry([plugin_file(BRIDGE)])
    (found,) = [bridge for bridge in registry.bridges("metrics") if bridge.prefix == "mylib"]
    assert found.status == f"pytest {pytest.__version__}" and registry.offered(found) == ["mylib:mean", "mylib:median"]
    plugin = registry.metric("mylib:mean")
    assert plugin.name == "mylib:mean" and plugin.parameters()[0].default == 2.0
    assert plugin.code.endswith(f"; pytest {pytest.__version__}") and len(plugin.code.partition(";")[0]) == 64
    assert registry.source("metrics", "mylib:mean").origin == f"pytest {pytest.__version__}"
    assert registry.knows("metrics", "mylib:mean") and not registry.knows("attacks", "mylib:mean")
    assert "mylib:mean" not in registry.names("metrics")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mylib:meen", r"unknown metric 'mylib:meen'\. Did you mean 'mylib:mean'\?"),
        ("milib:mean", r"unknown metric 'milib:mean': no library 'milib'\. Did you mean 'mylib'\?"),
        ("mylib", r"unknown metric 'mylib': 'mylib' is a library\. Write mylib:NAME; 'robustiqa show mylib' lists"),
        ("mylib:", r"unknown metric 'mylib:'"),
    ],
)
def test_wrong_names_behind_a_bridge(plugin_file, name, message):
    with pytest.raises(PluginError, match=message):
        Registry([plugin_file(BRIDGE)]).metric(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return Moment", "return int", r"load\('mean'\) must return a subclass of Metric"),
        ("higher_is_better = True", "", r"metric 'mylib:mean' from pytest .*: class Moment must say higher_is_better"),
        ('import_library("pytest")', "1 / 0", r"metric 'mylib:mean' cannot be had: ZeroDivisionError"),
        (
            'import_library("pytest")',
            'import_library("gone")',
            r"'mylib:mean': gone is not installed\. Get it with: pip",
        ),
    ],
)
def test_bridges_that_hand_over_something_else(plugin_file, old, new, message):
    with pytest.raises(PluginError, match=message):
        Registry([plugin_file(BRIDGE.replace(old, new))]).metric("mylib:mean")


def test_a_prefix_that_is_taken(plugin_file):
    with pytest.raises(PluginError, match=r"the metric bridge 'piq' is already taken by metrics_zoo\.bridges\.piq"):
        Registry([plugin_file(BRIDGE.replace('"mylib"', '"piq"'))])


def test_an_installed_bridge(plugin_file, tmp_path, monkeypatch):
    plugin_file(BRIDGE, "outside_bridge.py")
    info = tmp_path / "outside_bridges-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-bridges\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[robustiqa.metrics.bridges]\nmylib = outside_bridge:MyLib\n")
    (info / "RECORD").write_text("outside_bridge.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry = Registry()
    assert registry.metric("mylib:median").code == f"outside-bridges 2.0; pytest {pytest.__version__}"
    monkeypatch.setenv("ROBUSTIQA_NO_PLUGINS", "1")
    with pytest.raises(PluginError, match="no library 'mylib'"):
        Registry().source("metrics", "mylib:median")


def test_bridges_are_listed_without_importing_a_library():
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['list', 'bridges', '--json'])\nexcept SystemExit as end: assert not end.code\n"
        "slow = {'torch', 'torchmetrics', 'piq', 'pyiqa', 'metrics_zoo'} & {m.split('.')[0] for m in sys.modules}\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = {row["name"]: row["from"] for row in json.loads(done.stdout)["bridges"]}
    metrics = ["piq:NAME (metrics)", "pyiqa:NAME (metrics)", "torchmetrics:NAME (metrics)"]
    attacks = ["art:NAME (attacks)", "pyautoattack:NAME (attacks)", "torchattacks:NAME (attacks)"]
    assert list(rows) == metrics + attacks
    libraries = ["piq", "pyiqa", "torchmetrics", "adversarial-robustness-toolbox", "pyautoattack", "torchattacks"]
    assert [from_.split()[0].rstrip(",") for from_ in rows.values()] == libraries
