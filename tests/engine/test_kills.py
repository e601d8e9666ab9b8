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

import harness.report.render
from harness.engine.example_names import id_in
from harness.engine.run_folder import RunFolder
from harness.engine.shards import shards_of
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.planning import make_plan
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text
from tests.toys.stored import parts, records

PLUGINS = tuple(Path(__file__).parents[1] / "toys" / name for name in ("toy.py", "slow.py"))
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
    owned: tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int]]]

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
    owned, plan = [set(), set()], make_plan(suite, registry)
    new = RunFolder(tmp_path_factory.mktemp("new") / "run")  # in which nothing was measured, as in the hunt
    new.open(suite)
    shard = shards_of(plan, new, 2, "cpu")
    for block in plan.blocks({}):
        owned[shard[block.key]] |= {(cell.id, block.slice) for cell in block.cells}
    assert owned[0] | owned[1] == parts(folder) and len(owned[0] | owned[1]) == 100
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
    stored: int
    own_stored: int
    """Cells and slices with records."""
    torn: int
    """Records under temporary names: what writes the kill cut off, this one or one before."""
    unmatched: int
    """Cells and slices with examples and without records."""
    orphans_lived: float
    """Seconds that workers outlived their parent."""


@dataclass
class Marksman:
    """Runs one command to its end through every shot; `own` are the records that the command itself writes."""

    folder: Path
    said: Path
    arguments: tuple[str, ...]
    own: frozenset[tuple[str, int]]
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
            with self.said.open("a") as said:
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
                    assert process.wait(PATIENCE) == 0, self.said.read_text()
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
            assert process.poll() is None, f"it ended before {shot}: {self.said.read_text()}"
            assert time.monotonic() < deadline, f"nothing to shoot at: {shot}"
            time.sleep(0 if shot.moment == "writing" else 0.004)
        workers = workers_of(process.pid)
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
            assert time.monotonic() < killed + PATIENCE, "a worker goes on without its parent"
            time.sleep(0.005)
        lived = time.monotonic() - killed
        found = parts(self.folder)
        torn = names(self.folder, "records/*/.*.tmp")
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
            return lambda: sum(len(names(self.folder, f"{one}/[a-z0-9]*.*")) for one in PREPARED) >= pages
        if name == "reporting":
            pages = rng.randint(1, 3)
            return lambda: len(names(self.folder, "report/tables/[a-z]*")) >= pages
        enough = self.done() + rng.randint(len(self.own) // 25, len(self.own) // 8)
        if name == "between":
            return lambda: self.done() >= enough and self.unmatched()
        if name == "writing":
            old = set(names(self.folder, "records/*/.*.tmp"))
            return lambda: set(names(self.folder, "records/*/.*.tmp")) - old and self.done() >= enough
        assert name == "working"
        pause = rng.uniform(0, 0.06)
        return lambda: self.done() >= enough and not time.sleep(pause)

    def done(self):
        return len(self.own & parts(self.folder))

    def unmatched(self):
        """Own cells and slices whose examples are complete and whose records are not there."""
        asked = {Path(name).parent for name in names(self.folder, "examples/*/*/samples.json")}
        kept = {(id_in(path.parts[1]), int(path.name)) for path in asked}
        return (kept & self.own) - parts(self.folder)


PREPARED = ("provenance", "probes", "facts", "fits")


def names(folder, pattern):
    return [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]


def workers_of(pid):
    """Worker processes of a run: below the server that they are copies of, or below the run itself."""
    servers = children(pid, "forkserver")
    return [*children(pid, "spawn_main"), *(worker for server in servers for worker in children(server, "forkserver"))]


def children(pid, called):
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in found if called in Path(f"/proc/{c}/cmdline").read_text()]
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


def tables(folder):
    """The tables without what the clock measured."""
    found = {name: pd.read_csv(folder / name, dtype=str) for name in names(folder, "report/tables/*.csv")}
    return {name: frame.drop(columns="milliseconds", errors="ignore").to_csv() for name, frame in found.items()}


def visible(folder):
    """Everything but locks and what kills left under temporary names; compact files without what they are named by."""
    there = {name for name in names(folder, "**/*") if not Path(name).name.startswith(".")}
    there = {name.rpartition("-")[0] if name.startswith("records/compact/") else name for name in there}
    # What calibrating took is lost with a kill before that stage has ended: the order of blocks alone goes by it.
    return there - {"failures", "provenance/shards.json", "provenance/paces.json"}


def assert_like(whole, folder):
    one, other = records(whole.folder), records(folder)
    assert one.keys() == other.keys()
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True, obj=name)
    for part in ("suite.yaml", "facts/*", "fits/*", "probes/*", "examples/**/*", "gallery/*/*"):
        expected = content(whole.folder, part)
        assert expected and content(folder, part) == expected, part
    assert not names(folder, "failures/*") and not list(RunFolder(folder).failures())
    assert len(tables(whole.folder)) >= 3 and tables(folder) == tables(whole.folder)
    assert visible(folder) == visible(whole.folder)
    assert_readable(folder)


def fatal(hits):
    return [hit for hit in hits if hit.shot.victim != "worker"]


def shots(*words):
    """Shots from words such as "working:parent"."""
    return [Shot(*word.split(":")) for word in words]


HUNTS = {
    "one worker": (
        ("--executor", "serial"),
        shots("starting:group", "between:group", "writing:group", "working:parent", "reporting:group"),
    ),
    "two workers": (
        ("--workers", "2"),
        shots("preparing:parent", "working:worker", "working:group", "writing:parent"),
    ),
    "shard 0": (("--shard", "0/2", "--executor", "serial"), shots("working:group", "writing:group")),
    "shard 1": (("--shard", "1/2", "--workers", "1"), shots("between:group", "working:worker", "working:parent")),
}
"""A few moments of every kind; `benchmarks/faults.py` kills at 100 random ones."""


@pytest.fixture(scope="module")
def hunt(whole, tmp_path_factory):
    """Every set-up, all at the same time: most of it is processes that start."""
    found, folder = {}, tmp_path_factory.mktemp("hunt")
    for seed, (name, (arguments, _)) in enumerate(HUNTS.items()):
        shard = int(name[-1]) if "shard" in name else None
        place = "shards" if shard is not None else name.replace(" ", "-")
        base = folder / place
        base.mkdir(exist_ok=True)
        (base / "suite.yaml").write_text(SUITE)
        own = whole.all if shard is None else whole.owned[shard]
        found[name] = Marksman(base / "run", base / f"{name}.txt", arguments, own, random.Random(seed))
    with ThreadPoolExecutor(len(found)) as threads:
        list(threads.map(lambda name: found[name].run(HUNTS[name][1]), found))
    return found


@needs_proc
@pytest.mark.parametrize("name", ["one worker", "two workers", "shard 0"])
def test_killed_and_resumed_equals_uninterrupted(whole, hunt, name):
    assert_like(whole, hunt[name].folder)


@needs_proc
def test_the_kills_met_every_state_of_a_run(whole, hunt):
    hits = [hit for one in hunt.values() for hit in one.hits]
    assert len(fatal(hits)) == 12 and len(hits) == 14
    assert sum(0 < hit.stored < len(whole.all) for hit in fatal(hits)) >= 7, hits
    assert not hunt["one worker"].hits[0].opened, "killed before there was a folder"
    assert any(hit.opened and not hit.stored for hit in hits), "killed before the first block"
    assert any(hit.torn for hit in hits if hit.shot.moment == "writing"), "killed in the middle of a write"
    assert any(hit.unmatched for hit in hits), "killed between the examples and the records"
    assert any(hit.stored == len(whole.all) for hit in hits), "killed while it reported"


@needs_proc
def test_shards_side_by_side_each_tell_of_every_start(hunt):
    pages = RunFolder(hunt["shard 0"].folder).read_provenance("invocations")
    for index in (0, 1):
        mine = [page for page in pages if f"{index}/2" in page["command"]]
        assert len(mine) >= hunt[f"shard {index}"].advances >= 2


def test_no_line_of_a_shared_page_is_lost(tmp_path):
    store = RunFolder(tmp_path)
    (tmp_path / "suite.yaml").touch()

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
    original = harness.report.render.write_report

    def halting(*arguments):
        if not other:
            other.append(threading.Thread(target=run, args=((1, 2),)))
            other[0].start()
            other[0].join(timeout=2.5)
        return original(*arguments)

    def run(shard):
        run_suite(whole.suite, whole.registry, Options(out=folder, executor="serial", shard=shard))

    monkeypatch.setattr(harness.report.render, "write_report", halting)
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
