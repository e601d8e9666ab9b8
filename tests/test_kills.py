"""A run killed at any moment and started again ends like one that was never interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

import harness.run
from harness.located import parse_text
from harness.plan import make_plan
from harness.registry import Registry
from harness.resolve import validate
from harness.run import Options, run_suite
from harness.store import RunFolder

PLUGINS = tuple(Path(__file__).parent / "plugins" / name for name in ("toy.py", "slow.py"))
PATIENCE = 120
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds worker processes in /proc")

SUITE = """
name: slow
datasets: [toy]
metrics: [linear, negative_mse]
defenses: [base, {name: jitter, threat: adaptive, eot: 2, draws: 2}]
attacks: [noise, leisurely, restarts, learnt]
budgets: {linf: [4/255]}
directions: [up]
slice: 4
save_examples: 3
"""


@dataclass(frozen=True)
class Whole:
    """The run that nothing interrupts, and how its blocks are shared between two shards."""

    suite: object
    registry: Registry
    folder: Path
    owned: tuple[frozenset[str], frozenset[str]]

    @property
    def all(self):
        return self.owned[0] | self.owned[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    registry = Registry(PLUGINS)
    suite = validate(parse_text(SUITE, "suite.yaml"), registry)
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = run_suite(suite, registry, Options(out=folder, executor="serial"))
    assert not result.failures
    owned = [set(), set()]
    for place, block in enumerate(make_plan(suite, registry).blocks({})):
        owned[place % 2] |= {f"records/{cell.id}/{block.slice:05d}.parquet" for cell in block.cells}
    assert owned[0] | owned[1] == set(names(folder, "records/*/*.parquet")) and len(owned[0] | owned[1]) == 100
    return Whole(suite, registry, folder, tuple(map(frozenset, owned)))


@dataclass(frozen=True)
class Shot:
    """When to kill, and whom: "group", "parent" or one "worker", after which the run goes on."""

    moment: str
    victim: str


@dataclass
class Hit:
    """What a kill met."""

    shot: Shot
    opened: bool
    files: int
    own_files: int
    torn: int
    """Temporary names that the kill left behind."""
    unmatched: int
    """Cells and slices with examples and without records."""
    orphans_lived: float
    """Seconds that workers outlived their parent."""


@dataclass
class Marksman:
    """Runs one command to its end through every shot; `own` are the records that the command itself writes."""

    folder: Path
    arguments: tuple[str, ...]
    own: frozenset[str]
    all: frozenset[str]
    rng: random.Random
    hits: list[Hit] = field(default_factory=list)
    advances: int = 0
    """Starts that have written records of their own."""

    def command(self):
        suite = self.folder.with_name("suite.yaml")
        plugins = [word for file in PLUGINS for word in ("--plugin", str(file))]
        return [
            *(sys.executable, "-m", "harness", "run", str(suite), "--out", str(self.folder), "-q"),
            *plugins,
            *self.arguments,
        ]

    def run(self, shots):
        waiting = list(shots)
        while True:
            with self.folder.with_name("said.txt").open("a") as said:
                process = subprocess.Popen(
                    self.command(),
                    start_new_session=True,
                    stdout=said,
                    stderr=said,
                    env={**os.environ, "SLOW_SECONDS": "0.015"},
                )
            before, ended = self.done(), False
            try:
                while waiting and not ended:
                    ended = self.shoot(process, waiting.pop(0))
                if not ended:
                    assert process.wait(PATIENCE) == 0, self.folder.with_name("said.txt").read_text()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self.advances += self.done() > before
            if not ended:
                return

    def shoot(self, process, shot):
        """Kill at the moment asked for; whether that ended the run."""
        ready, deadline = self.moment(shot.moment), time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None, f"it ended before it could be killed {shot}"
            assert time.monotonic() < deadline, f"nothing to shoot at: {shot}"
            time.sleep(0.001)
        workers = workers_of(process.pid)
        leftovers = set(temporary(self.folder))
        if shot.victim == "worker":
            assert workers, "no worker to kill"
            os.kill(self.rng.choice(workers), signal.SIGKILL)
        elif shot.victim == "parent":
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        if shot.victim != "worker":
            assert process.wait(PATIENCE) == -signal.SIGKILL, f"it ended before it could be killed {shot}"
        killed = time.monotonic()
        while shot.victim != "worker" and any(map(alive, workers)):
            assert time.monotonic() < killed + 20, "a worker goes on without its parent"
            time.sleep(0.005)
        lived = time.monotonic() - killed
        found = names(self.folder, "records/*/*.parquet")
        torn = [name for name in temporary(self.folder) if name not in leftovers or shot.moment == "writing"]
        opened = (self.folder / "suite.yaml").exists()
        self.hits.append(Hit(shot, opened, len(found), self.done(), len(torn), len(self.unmatched()), lived))
        assert_readable(self.folder)
        return shot.victim != "worker"

    def moment(self, name):
        """A question whose answer becomes yes at a random moment of the kind asked for."""
        rng, began = self.rng, time.monotonic()
        if name == "starting":
            delay = rng.uniform(0.1, 1.0)
            return lambda: time.monotonic() > began + delay
        if name == "preparing":
            pages = rng.randint(1, 10)
            return lambda: sum(len(names(self.folder, f"{one}/*[a-z0-9]")) for one in PREPARED) >= pages
        if name == "between":
            return lambda: self.done() > 0 and self.unmatched()
        if name == "reporting":
            pages = rng.randint(1, 3)
            return lambda: (
                len(names(self.folder, "report/tables/*.*")) >= pages and self.folder.joinpath("report").exists()
            )
        enough = self.done() + rng.randint(3, 7)
        if name == "writing":
            return lambda: self.done() >= enough and names(self.folder, "records/*/.*.tmp")
        assert name == "working"
        pause = rng.uniform(0, 0.06)
        return lambda: self.done() >= enough and not time.sleep(pause)

    def done(self):
        return len(self.own.intersection(names(self.folder, "records/*/*.parquet")))

    def unmatched(self):
        """Own cells and slices whose examples are complete and whose records are not there."""
        asked = {Path(name).parent for name in names(self.folder, "examples/*/*/samples.json")}
        records = {f"records/{path.parts[1]}/{path.name}.parquet" for path in asked}
        return [name for name in records & self.own if not (self.folder / name).exists()]


PREPARED = ("provenance", "probes", "facts", "fits")


def names(folder, pattern):
    return [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]


def temporary(folder):
    return names(folder, "**/.*.tmp")


def workers_of(pid):
    """Worker processes of a run; its other child is the resource tracker of multiprocessing."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_readable(folder):
    """Every file under its own name is whole."""
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            assert len(pd.read_parquet(path))
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            assert load_file(path)


def content(folder, *patterns):
    """Name -> bytes of the files that count."""
    return {
        name: (folder / name).read_bytes()
        for pattern in patterns
        for name in names(folder, pattern)
        if (folder / name).is_file() and not Path(name).name.startswith(".")
    }


def records(folder):
    return {
        name: pd.read_parquet(folder / name).drop(columns="seconds") for name in names(folder, "records/*/*.parquet")
    }


def tables(folder):
    """The tables without what the clock measured."""
    found = {name: pd.read_csv(folder / name, dtype=str) for name in names(folder, "report/tables/*.csv")}
    return {name: frame.drop(columns="milliseconds", errors="ignore").to_csv() for name, frame in found.items()}


def assert_like(whole, folder):
    one, other = records(whole.folder), records(folder)
    assert one.keys() == other.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True, obj=name)
    for part in ("suite.yaml", "facts/*", "fits/*", "probes/*", "examples/**/*"):
        expected = content(whole.folder, part)
        assert expected and content(folder, part) == expected, part
    assert not names(folder, "failures/*") and not list(RunFolder(folder).failures())
    assert len(tables(whole.folder)) >= 3 and tables(folder) == tables(whole.folder)
    visible = {name for name in names(folder, "**/*") if not Path(name).name.startswith(".")}
    assert visible - {"failures"} == set(names(whole.folder, "**/*[!k]")) - set(temporary(whole.folder))
    assert_readable(folder)


def fatal(hits):
    return [hit for hit in hits if hit.shot.victim != "worker"]


def assert_in_midst(hits, whole, least):
    assert sum(0 < hit.files < len(whole.all) for hit in fatal(hits)) >= least, hits


def marksman(whole, folder, arguments, seed, own=None):
    folder.with_name("suite.yaml").write_text(SUITE)
    return Marksman(folder, arguments, own or whole.all, whole.all, random.Random(seed))


@needs_proc
def test_one_worker(whole, tmp_path):
    one = marksman(whole, tmp_path / "run", ("--executor", "serial"), 1)
    midst = [Shot(moment, "group") for moment in ("between", "writing", "working", "working")]
    one.rng.shuffle(midst)
    one.run([Shot("starting", "group"), Shot("preparing", "group"), *midst, Shot("reporting", "group")])
    assert len(fatal(one.hits)) == 7 and not one.hits[0].opened
    assert_in_midst(one.hits, whole, 4)
    assert any(hit.torn for hit in one.hits if hit.shot.moment == "writing"), "killed in the middle of a write"
    assert any(hit.unmatched for hit in one.hits), "killed between the examples and the records"
    assert_like(whole, one.folder)


@needs_proc
def test_two_workers(whole, tmp_path):
    one = marksman(whole, tmp_path / "run", ("--workers", "2"), 2)
    midst = [
        [Shot("between", "parent")],
        [Shot("working", "worker"), Shot("writing", "parent")],
        [Shot("working", "group")],
        [Shot("working", "worker"), Shot("working", "parent")],
    ]
    one.rng.shuffle(midst)
    shots = [Shot("starting", "group"), Shot("preparing", "parent"), *sum(midst, []), Shot("reporting", "group")]
    one.run(shots)
    assert len(fatal(one.hits)) == 7 and len(one.hits) == 9
    assert_in_midst(one.hits, whole, 4)
    assert any(hit.unmatched for hit in one.hits), "killed between the examples and the records"
    assert_like(whole, one.folder)


@needs_proc
def test_two_shards_side_by_side(whole, tmp_path):
    seen, shots = [], (
        [Shot("starting", "group"), Shot("working", "group"), Shot("writing", "group")],
        [Shot("preparing", "parent"), Shot("working", "worker"), Shot("working", "parent"), Shot("between", "group")],
    )
    how = (("--executor", "serial"), ("--workers", "1"))
    for index in (0, 1):
        arguments = ("--shard", f"{index}/2", *how[index])
        seen.append(marksman(whole, tmp_path / "run", arguments, 30 + index, whole.owned[index]))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Marksman.run, seen, shots))
    hits = seen[0].hits + seen[1].hits
    assert len(fatal(hits)) == 6
    assert_in_midst(hits, whole, 4)
    assert_like(whole, tmp_path / "run")
    pages = RunFolder(tmp_path / "run").read_provenance("invocations")
    for index, one in enumerate(seen):
        mine = [page for page in pages if f"{index}/2" in page["command"]]
        assert len(mine) >= one.advances >= 2, "every start that wrote records is told of"


def test_no_line_of_a_shared_page_is_lost(tmp_path):
    store = RunFolder(tmp_path)

    def write(worker):
        for line in range(15):
            store.add_provenance("invocations", [{"worker": worker, "line": line}])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    pages = store.read_provenance("invocations")
    assert len(pages) == len({(p["worker"], p["line"]) for p in pages}) == 90


def test_the_shard_that_reports_last_reports_everything(whole, tmp_path, monkeypatch):
    """One shard stands still between reading the records and writing its report; the other ends meanwhile."""
    folder, other = tmp_path / "run", []
    original = harness.run.write_report

    def halting(data, where):
        if not other:
            other.append(threading.Thread(target=run, args=((1, 2),)))
            other[0].start()
            other[0].join(timeout=6)
        return original(data, where)

    def run(shard):
        run_suite(whole.suite, whole.registry, Options(out=folder, executor="serial", shard=shard))

    monkeypatch.setattr(harness.run, "write_report", halting)
    for part in ("facts", "fits", "probes"):
        shutil.copytree(whole.folder / part, folder / part)
    shutil.copy(whole.folder / "suite.yaml", folder)
    run((0, 2))
    other[0].join()
    assert tables(folder) == tables(whole.folder)


def test_a_folder_that_another_shard_opens_at_this_moment_is_no_foreign_one(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    original = Path.iterdir

    def opened_meanwhile(path):
        if path == folder and not (folder / "suite.yaml").exists():
            shutil.copy(whole.folder / "suite.yaml", folder)
            (folder / "provenance").mkdir()
        return original(path)

    monkeypatch.setattr(Path, "iterdir", opened_meanwhile)
    RunFolder(folder).open(whole.suite)
