"""`robustiqa new`: what it writes works as it is, alone and as an installed package, and it never half-writes."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.plugins.scaffold import create

KINDS = ("metric", "attack", "defense", "dataset")


@pytest.fixture
def shell(tmp_path):
    """A command line as a person types it into a fresh folder outside the repository."""

    def call(line, folder=tmp_path, **variables):
        env = {k: v for k, v in os.environ.items() if k not in ("ROBUSTIQA_NO_PLUGINS", "PYTHONPATH")}
        env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
        return subprocess.run(
            line, shell=True, cwd=folder, env={**env, **variables}, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture(scope="module")
def plugins():
    return Registry()


def done(process):
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---------------------------------------------------------------------------------------------- what is written works


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_check_and_runs(shell, tmp_path, monkeypatch, capsys, kind):
    """Runs the commands that it prints."""
    told = done(shell(f"robustiqa new {kind} demo"))
    assert told.startswith("wrote demo.py\nwrote test_demo.py\nwrote demo.yaml\n")
    check, run = re.findall(r"^  (.*)$", told, flags=re.MULTILINE)
    assert [check, run] == ["pytest test_demo.py", "robustiqa run demo.yaml --plugin demo.py"]
    assert "1 passed" in done(shell(check))
    if kind != "attack":  # the next test runs that one as a person does; here this process has torch already
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main([*run.split()[1:], "--executor", "serial"])
        tables = capsys.readouterr().out
        assert not ended.value.code and "SROCC" in tables and "pgd" in tables and "demo" in tables


def test_new_attack_and_its_run_in_one_line(shell, tmp_path):
    told = done(shell("robustiqa new attack demo && robustiqa run demo.yaml --plugin demo.py"))
    assert "Report: results/runs/demo/report/index.html" in told
    assert all(name in told for name in ("psnr", "ssim", "birqa-tiny", "demo"))
    assert (tmp_path / "results" / "runs" / "demo" / "report" / "index.html").is_file()


def can_build():
    """A current torch brings setuptools; from 70.1 on setuptools builds without the package wheel."""
    have = [importlib.util.find_spec(name) is not None for name in ("pip", "setuptools")]
    return all(have) and tuple(int(n) for n in version("setuptools").split(".")[:2]) >= (70, 1)


@pytest.mark.skipif(not can_build(), reason="needs pip and setuptools 70.1 to build a package without a network")
def test_an_installed_package_is_found_by_its_entry_point_and_runs_without_plugin(shell, tmp_path):
    told = done(shell("robustiqa new attack demo --package && robustiqa new dataset my-shots --package"))
    assert [line.strip() for line in told.splitlines() if line.startswith("  ")][:3] == [
        "pip install -e robustiqa-demo",
        "pytest robustiqa-demo",
        "robustiqa run robustiqa-demo/demo.yaml",
    ]
    assert "2 passed" in done(shell("pytest robustiqa-demo robustiqa-my-shots")), "before it is installed, too"
    pip = f"'{sys.executable}' -m pip install --quiet --no-index --no-deps --no-build-isolation --target site"
    done(shell(f"{pip} ./robustiqa-demo ./robustiqa-my-shots"))
    site = {"PYTHONPATH": str(tmp_path / "site")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = " ".join(done(shell("robustiqa list attacks", elsewhere, **site)).split())
    assert "(demo:Demo)" in listed and "robustiqa-demo" in listed
    line = "robustiqa run ../robustiqa-demo/demo.yaml --only 'psnr/*'"
    assert "demo" not in done(shell("robustiqa list attacks", elsewhere)), "where it is not installed"
    assert "demo" in done(shell(line, elsewhere, **site))
    done(shell("robustiqa validate ../robustiqa-my-shots/my_shots.yaml", elsewhere, **site))
    assert (tmp_path / "site" / "my_shots" / "my_shots_data" / "ref_1.png").is_file(), "its images are installed"
    taken = shell("robustiqa new attack demo", elsewhere, **site)
    assert taken.returncode == 2 and taken.stdout == "" and not list(elsewhere.glob("*demo*"))
    assert taken.stderr == (
        "error: new attack 'demo': the attack name 'demo' is already taken by robustiqa-demo (demo:Demo). "
        "Take another name, such as 'my_demo'.\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_plugin_file_is_short_and_in_house_style(plugins, tmp_path, kind):
    lone = create(kind, f"my-{kind}", tmp_path / "lone", plugins).files
    package = create(kind, f"my-{kind}", tmp_path / "package", plugins, package=True).files
    [plugin] = [f for f in lone if f.name == f"my_{kind}.py"]
    text = plugin.read_text()
    assert len(text.splitlines()) <= 45
    assert f'@register("my-{kind}")' in text and f"class My{kind.title()}(" in text
    assert [f.read_text() for f in package if f.name == "__init__.py"] == [text], "the same code either way"
    code = [str(f) for f in (*lone, *package) if f.suffix == ".py"]
    house = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    for command in (["check", "--ignore=D103,I001"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, *house, *code]
        done(subprocess.run(ruff, capture_output=True, text=True, check=False))


def test_a_data_set_says_what_is_missing_and_what_to_do(plugins, tmp_path):
    from harness.contracts import DataError

    create("dataset", "shots", tmp_path, plugins)
    shots = Registry([tmp_path / "shots.py"]).dataset("shots")
    labels = tmp_path / "shots_data" / "labels.csv"
    assert len(shots.build({}).entries("all")) == 9
    cure = r"Give a table ref,dist,opinion there\.$"
    labels.write_text("ref,dist\nref_1.png,ref_1_noise_1.png\n")
    with pytest.raises(DataError, match=rf"{re.escape(str(labels))}: KeyError\('opinion'\)\. {cure}"):
        shots.build({}).entries("all")
    labels.unlink()
    with pytest.raises(DataError, match=rf"{re.escape(str(labels))}: FileNotFoundError.* {cure}"):
        shots.build({}).entries("all")
    with pytest.raises(DataError, match=r"nowhere/labels\.csv: FileNotFoundError"):
        shots.build({"root": "nowhere"}).entries("all")


def test_commands_name_the_folder_and_are_quoted_for_the_shell(plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    created = create("metric", "demo", Path("my work/new"), plugins)
    assert created.files[0] == Path("my work/new/demo.py")
    assert created.commands == (
        "pytest 'my work/new/test_demo.py'",
        "robustiqa run 'my work/new/demo.yaml' --plugin 'my work/new/demo.py'",
    )
    assert "robustiqa run demo.yaml --plugin demo.py" in Path("my work/new/demo.yaml").read_text()


@pytest.mark.parametrize("line", ["['new', '--help']", "['new', 'attack', 'demo']", "['new', 'dataset', 'x']"])
def test_neither_torch_nor_a_plugin_is_imported(shell, line):
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try: main({line})\nexcept SystemExit as end: assert not end.code\n"
        "slow = [m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'scipy', 'attacks', 'metrics_zoo')]\n"
        "assert not slow, slow\n"
    )
    told = done(shell(f"{sys.executable} - <<'END'\n{code}END"))
    assert "wrote" in told or "Example: robustiqa new attack demo" in told


# ------------------------------------------------------------------------------------------------------------ refusals


RULES = (
    "a name has lower-case letters, digits, and single '_' or '-' between them, starts with a letter and has at most "
    "60 characters."
)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("attack", "MyAttack 2", f"{RULES} Take a name such as 'my_attack_2'."),
        ("attack", "2fast", f"{RULES} Take a name such as 'my_attack'."),
        ("metric", "../up", f"{RULES} Take a name such as 'up'."),
        ("metric", "a__b", f"{RULES} Take a name such as 'a_b'."),
        ("metric", "", f"{RULES} Take a name such as 'my_metric'."),
        ("metric", "x" * 61, f"{RULES} Take a name such as '{'x' * 60}'."),
        ("defense", "é", f"{RULES} Take a name such as 'my_defense'."),
        ("attack", "demo\n", f"{RULES} Take a name such as 'demo'."),
        (
            "attack",
            "pgd",
            "the attack name 'pgd' is already taken by attacks.pgd. Take another name, such as 'my_pgd'.",
        ),
        (
            "metric",
            "birqa-tiny",
            "the metric name 'birqa-tiny' is already taken by metrics_zoo.birqa. "
            "Take another name, such as 'my_birqa_tiny'.",
        ),
        (
            "defense",
            "flip",
            "the purifier name 'flip' is already taken by defenses.purifiers.flip. "
            "Take another name, such as 'my_flip'.",
        ),
        (
            "dataset",
            "mini",
            "the data set name 'mini' is already taken by harness.datasets.mini. Take another name, such as 'my_mini'.",
        ),
        (
            "defense",
            "base",
            "in suites 'base' is the metric without a defense. Take another name, such as 'my_base'.",
        ),
        (
            "attack",
            "clean",
            "in tables 'clean' is what was measured without an attack. Take another name, such as 'my_clean'.",
        ),
        ("metric", "class", "'class' is a word of Python or YAML. Take another name, such as 'my_class'."),
        ("metric", "none", "'none' is a word of Python or YAML. Take another name, such as 'my_none'."),
        ("metric", "null", "'null' is a word of Python or YAML. Take another name, such as 'my_null'."),
        (
            "attack",
            "random",
            "a module 'random' is there already (standard library), and one of them would hide the other. "
            "Take another name, such as 'my_random'.",
        ),
        (
            "attack",
            "harness",
            "a module 'harness' is there already (robustiqa), and one of them would hide the other. "
            "Take another name, such as 'my_harness'.",
        ),
        (
            "dataset",
            "path",
            "its class would be called Path, which the file needs for something else. "
            "Take another name, such as 'my_path'.",
        ),
        (
            "attack",
            "value-error",
            "its class would be called ValueError, which the file needs for something else. "
            "Take another name, such as 'my_value_error'.",
        ),
    ],
)
@pytest.mark.parametrize("package", [False, True])
def test_names_that_cannot_be_used(plugins, tmp_path, kind, name, reason, package):
    with pytest.raises(UserError) as caught:
        create(kind, name, tmp_path, plugins, package=package)
    assert str(caught.value) == f"new {kind} '{name}': {reason}"
    assert everything(tmp_path) == []


def test_a_name_that_would_hide_an_installed_module(plugins, tmp_path):
    import torch

    from harness.files import shown

    with pytest.raises(UserError) as caught:
        create("attack", "torch", tmp_path, plugins)
    assert str(caught.value) == (
        f"new attack 'torch': a module 'torch' is there already ({shown(torch.__file__)}), and one of them would hide "
        "the other. Take another name, such as 'my_torch'."
    )
    assert everything(tmp_path) == []


def test_a_module_of_the_current_folder_stands_in_the_way_of_its_own_file_only(plugins, tmp_path, monkeypatch):
    """`python -m harness` finds it, and the installed command does not; both must answer alike."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nearby.py").write_text("")
    importlib.invalidate_caches()
    assert create("attack", "nearby", Path("other"), plugins).files[0] == Path("other/nearby.py")


@pytest.mark.parametrize(
    ("there", "package", "message"),
    [
        (["demo.py"], False, "{0}/demo.py exists already"),
        (["demo.yaml", "test_demo.py"], False, "{0}/demo.yaml, {0}/test_demo.py exist already"),
        (["demo_data/mine.png"], False, "{0}/demo_data exists already"),
        (["robustiqa-demo/notes.md"], True, "{0}/robustiqa-demo exists already"),
    ],
)
def test_nothing_is_overwritten_or_written_beside(plugins, tmp_path, there, package, message):
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(UserError) as caught:
        create("dataset", "demo", tmp_path, plugins, package=package)
    assert str(caught.value) == (
        message.format(tmp_path) + ", and nothing is overwritten. "
        "Take another name, move what is there away, or give another folder with --out."
    )
    assert everything(tmp_path) == before and all((tmp_path / name).read_text() == "mine" for name in there)


def test_a_dangling_link_is_not_written_through(plugins, tmp_path):
    (tmp_path / "demo.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(UserError, match=r"demo\.py exists already, and nothing is overwritten"):
        create("metric", "demo", tmp_path, plugins)
    assert everything(tmp_path) == ["demo.py"]


@pytest.mark.parametrize("below", ["", "new/deep"])
def test_a_file_in_place_of_the_folder(plugins, tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError) as caught:
        create("metric", "demo", file / below, plugins)
    assert str(caught.value) == f"{file} is a file, not a folder. Give another folder with --out."
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written(plugins, tmp_path):
    tmp_path.chmod(0o500)
    # root may write into any folder but those of the kernel
    folder = (Path("/proc") if os.access(tmp_path, os.W_OK) else tmp_path) / "new"
    try:
        with pytest.raises(OSError) as refused:
            folder.mkdir()
        with pytest.raises(UserError) as caught:
            create("metric", "demo", folder, plugins)
    finally:
        tmp_path.chmod(0o700)
    assert str(caught.value) == (
        f"{folder}: the folder cannot be written ({refused.value.strerror}), and nothing was. "
        "Give a folder of your own with --out."
    )
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(OSError(28, "No space left on device"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
@pytest.mark.parametrize("package", [False, True])
def test_when_writing_fails_half_way_nothing_is_left(plugins, tmp_path, monkeypatch, failure, expected, package):
    from harness.files import write_whole
    from harness.plugins import scaffold

    written = []

    def fails_at_the_fifth(path, content):
        if len(written) == 4:
            raise failure
        written.append(path)
        write_whole(path, content)

    monkeypatch.setattr(scaffold, "write_whole", fails_at_the_fifth)
    (tmp_path / "mine.txt").write_text("mine")
    out = tmp_path / "new" / "deep"
    with pytest.raises(expected) as caught:
        create("dataset", "demo", out, plugins, package=package)
    assert len(written) == 4 and everything(tmp_path) == ["mine.txt"]
    if expected is UserError:
        assert str(caught.value) == (
            f"{out}: the folder cannot be written (No space left on device), and nothing was. "
            "Give a folder of your own with --out."
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("new attack pgd", "error: new attack 'pgd': the attack name 'pgd' is already taken by attacks.pgd. "),
        ("new atack demo", "atack"),
        ("new attack", "NAME"),
    ],
)
def test_mistakes_on_the_command_line_exit_2_without_a_traceback(shell, tmp_path, line, message):
    ended = shell(f"robustiqa {line}")
    assert ended.returncode == 2 and message in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stdout == "" and everything(tmp_path) == []
