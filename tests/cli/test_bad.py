"""Every wrong file of `tests/bad`, through the command line: the exact message, the exit code, and nothing changed.

What a case says and how one is added: `tests/bad/README.md`.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.cli import main
from tests.toys.stored import parts

BAD = Path(__file__).parents[1] / "bad"
KINDS = ("suites", "images", "weights", "plugins", "runs", "recipes")
CASES = {
    f"{kind}/{name}": case
    for kind in KINDS
    for name, case in yaml.safe_load((BAD / kind / "cases.yaml").read_text(encoding="utf-8")).items()
}
IN_A_PROCESS_OF_THEIR_OWN = (
    "suites/python_object",
    "images/image_truncated",
    "weights/page",
    "plugins/metric_nan",
    "plugins/exits_at_import",
    "runs/record_truncated",
    "recipes/unknown_key",
)
CURE = re.compile(
    r"known:|\b(must|should|did you mean|give|add|remove|choose|take|write|mend|make|put|use|start|save|indent|restore|"
    r"download|convert|train|name|leave|register|exclude|vary|raise|change|list|uninstall|unpack|build|say|compare|this suite has|"
    r"counted from|computed again|computes it again)\b",
    re.IGNORECASE,
)
"""What a cure says: a rule, a suggestion, or what to do."""
EXECUTED = re.compile(r"note: (--plugin|an installed plugin) executes Python code with your rights: .*\n")
"""Said before any code of a plugin runs, whatever is wrong with it."""
HEADINGS = re.compile(r"error: \d+ problems:|What was finished is kept; .*")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, toy_file):
    """A run folder with nothing wrong, to be damaged."""
    folder = tmp_path_factory.mktemp("finished")
    command = ["run", BAD / "runs" / "suite.yaml", "--plugin", toy_file, "--out", folder / "run"]
    code, _, said = called([*map(str, command), "--executor", "serial", "--quiet"])
    assert code == 0, said
    return folder / "run"


@pytest.fixture
def at(tmp_path, toy_file, finished_run, monkeypatch):
    """Puts a case's files into a folder of its own and goes there; gives the folder and the path that was damaged."""

    def place(name):
        kind, case = name.split("/")[0], CASES[name]
        folder = tmp_path / "here"
        shutil.copytree(BAD / kind, folder, ignore=shutil.ignore_patterns("cases.yaml", "__pycache__"))
        shutil.copy(toy_file, folder / "toy.py")
        if kind == "images":
            write_tid2013(folder / "tid")
        if kind == "weights":
            write_weights(folder / "small.safetensors")
        if kind == "runs":
            shutil.copytree(finished_run, folder / "run")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        for variable in ("ROBUSTIQA_CACHE_DIR", "ROBUSTIQA_NO_PLUGINS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(folder / "data"))
        if "zoo" in case:
            monkeypatch.setattr("harness.plugins.weights.locate.zoo", lambda: Path(case["zoo"]))
        if "installed" in case:
            monkeypatch.syspath_prepend(folder / case["installed"])
        damaged = [damage(folder, step) for step in case.get("damage", [])]
        return folder, damaged[0] if damaged else ""

    return place


def called(arguments):
    """Exit code, standard output and standard error of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit) as end:
            main(arguments)
    noise = [str(warning.message) for warning in seen if not issubclass(warning.category, DeprecationWarning)]
    return end.value.code or 0, out.getvalue(), err.getvalue() + "".join(f"WARNING {text}\n" for text in noise)


def contents(folder, but=()):
    """Path -> hash of every file, and every folder, except those below `but`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if not any(path.is_relative_to(folder / part) for part in but)
    }


def as_pattern(says, folder, damaged):
    """The expected text, in which <...> stands for words of another library, which change with its version."""
    text = says.replace("{folder}", str(folder)).replace("{damaged}", damaged)
    return re.compile("[^\n]*?".join(re.escape(part) for part in text.split("<...>")))


def in_order(text):
    """Failed cells are told in the order of their hashes, which follows the engine's version."""
    lines = text.splitlines(keepends=True)
    return "".join(sorted(lines, key=lambda line: line if line.startswith("failed: ") else "~"))


def expected(name, folder, damaged, code, out, said):
    case = CASES[name]
    assert "Traceback" not in said + out
    said = EXECUTED.sub("", said)
    assert as_pattern(in_order(case["says"]), folder, damaged).fullmatch(in_order(said)), f"{name} said:\n{said}"
    assert code == case.get("exit", 2)


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_nothing_else(at, name):
    case = CASES[name]
    if case.get("not_as_root") and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder, damaged = at(name)
    may_change = case.get("changes", [])
    before = contents(folder, but=may_change)
    expected(name, folder, damaged, *called(shlex.split(case["command"])))
    assert contents(folder, but=may_change) == before
    if "records" in case:
        assert len(parts(folder / "run")) == case["records"]


@pytest.mark.parametrize("name", IN_A_PROCESS_OF_THEIR_OWN)
def test_the_same_from_a_shell(at, name):
    folder, damaged = at(name)
    command = [sys.executable, "-m", "harness", *shlex.split(CASES[name]["command"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected(name, folder, damaged, done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("broken", ["plugins/installed_raises", "plugins/installed_name_taken"])
def test_the_rest_works_beside_a_broken_installed_plugin(at, broken):
    at(broken)
    code, out, _ = called(["validate", "good.yaml", "--plugin", "toy.py"])
    assert code == 0 and "valid" in out


def test_the_corpus_is_large_and_every_message_names_place_and_cure():
    assert len(CASES) >= 60
    for name, case in CASES.items():
        kind = name.split("/")[0]
        files = {path.name for path in (BAD / kind).iterdir()} | {"bad_metric", "bad_attack", "bad_defense", "bad_data"}
        places = [word for word in shlex.split(case["command"])[1:] if not word.startswith("-")]
        places += [*files, "{damaged}", "toy test", "--", "i0", "test/r", "failed: b: ", "BiRQA", "no_better"]
        for line in case["says"].splitlines():
            if HEADINGS.fullmatch(line):
                continue
            assert any(place in line for place in places), f"{name}: no place in {line!r}"
            assert line.startswith("failed: ") or CURE.search(line), f"{name}: no cure in {line!r}"
        assert "failed: " not in case["says"] or "mend the cause" in case["says"]


def test_no_wrong_file_is_forgotten():
    for kind in KINDS:
        told = " ".join(str(case) for name, case in CASES.items() if name.startswith(kind))
        for path in (BAD / kind).iterdir():
            helpers = ("cases.yaml", "good.yaml", "more.py", "__pycache__", "extends_in_a_circle_too.yaml")
            assert path.name in told or path.name in helpers, f"{path} is in no case"


def damage(folder, step):
    """Do to one file what a case says; gives the file's path as messages show it."""
    found = sorted(folder.glob(step["path"]))
    path = found[0] if found else folder / step["path"]
    if "keep" in step:
        path.write_bytes(path.read_bytes()[: step["keep"]])
    elif "text" in step:
        path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.write_text(step["text"], encoding=step.get("encoding", "utf-8"))
    elif "append" in step:
        path.write_text(path.read_text() + step["append"])
    elif "hex" in step:
        path.write_bytes(bytes.fromhex(step["hex"]))
    elif "image" in step:
        write_image(path, **step["image"])
    elif "tensors" in step:
        write_weights(path, step["tensors"])
    elif "columns" in step:
        write_columns(path, step["columns"])
    elif step.get("read_only"):
        path.chmod(0o555)
    elif step.get("folder"):
        path.unlink()
        path.mkdir()
    elif step.get("remove"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        raise AssertionError(f"no damage in {step}")
    return str(path.relative_to(folder))


def write_tid2013(root):
    """Two references with two distorted images each, in the layout of TID2013."""
    for part in ("reference_images", "distorted_images"):
        (root / part).mkdir(parents=True)
    lines = []
    for reference in (1, 2):
        pixels = np.random.default_rng(reference).integers(20, 235, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "reference_images" / f"I{reference:02}.BMP")
        for level in (1, 2):
            Image.fromarray(pixels + np.uint8(level)).save(
                root / "distorted_images" / f"i{reference:02}_08_{level}.bmp"
            )
            lines.append(f"{7 - level - reference / 10} i{reference:02}_08_{level}.bmp\n")
    (root / "mos_with_names.txt").write_text("".join(lines))


def write_image(path, mode, size=16, pages=1):
    """A PNG of one colour under any name; a TIFF where PNG has no such mode, or of several pages."""
    colours = {"LA": (90, 10), "RGBA": (90, 80, 70, 10), "CMYK": (1, 2, 3, 4), "RGB": (9, 8, 7), "F": 0.5}
    image = Image.new(mode, (size, size), colours[mode])
    if pages > 1 or mode in ("CMYK", "F"):
        image.save(path, format="TIFF", save_all=True, append_images=[image] * (pages - 1))
    else:
        image.save(path, format="PNG")


def write_weights(path, how="right"):
    """Weights of a small BiRQA, right or wrong in one way."""
    from metrics_zoo.birqa import BiRQA

    state = load_file(path) if path.exists() else BiRQA(channels=8, stem_channels=4, head=8).state_dict()
    one = "network.head.pools.0.exponent"
    if how == "other names":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif how == "one shape wrong":
        state[one] = torch.zeros(3)
    elif how == "one missing":
        del state[one]
    elif how == "one too many":
        state["extra"] = torch.zeros(3)
    elif how == "not finite":
        state[one] = torch.tensor(torch.nan)
    elif how == "whole numbers":
        state[one] = torch.tensor(3)
    elif how == "a pickle":
        torch.save(state, path)
        return
    elif how.startswith("of type "):
        path.write_bytes(with_tensor_of(path.read_bytes(), how.removeprefix("of type ")))
        return
    save_file(state, path)


def with_tensor_of(content, kind):
    """A safetensors file with eight numbers more, of a type that the format knows and torch has no tensor for."""
    length = int.from_bytes(content[:8], "little")
    head, numbers = json.loads(content[8 : 8 + length]), content[8 + length :]
    more = bytes({"F4": 4, "F8_E8M0": 8}[kind])
    head["zz"] = {"dtype": kind, "shape": [8], "data_offsets": [len(numbers), len(numbers) + len(more)]}
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + numbers + more


def write_columns(path, how):
    """Records with other columns than a run writes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if how == "others":
        pq.write_table(pa.table({"score": [1.0, 2.0]}), path)
        return
    table = pq.read_table(path)
    text = pa.array(["high"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("attacked"), "attacked", text), path)
