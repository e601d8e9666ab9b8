"""Faults made on purpose, counted: what each loses, doubles, makes wrong, ends in a traceback or hangs on.

    python benchmarks/faults.py [PART ...] [--share 1.0] [--seed 0] [--out FILE.md]

Parts: kills, compaction, training, flips, moved, mutants, together, disk, clock, stopped, cache; all if none is named.
A share of .1 makes a tenth of the faults of each. Everything is drawn from the seed; what a kill meets depends on the
machine as well. Every run is of tests/toys: probes, facts, a fit, records of 100 cells and slices, examples, a report;
its records also lie as a run appends them, and compact in many row groups. Results are compared with
those of a run that nothing disturbed: records and facts value by value, but for seconds.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fault_counts import PATIENCE_S, ROOT, SUITE, TOYS, Count, Undisturbed, results_of, run_place
from mutants import mutants
from record_faults import compaction, moved, of_many_groups, only_true, scattered

from harness.engine.run_folder import RunFolder
from harness.errors import UserError

RECIPE = """
name: faults
seed: 0
dataset: {name: mini}
metric: {name: birqa-tiny}
recipe: clean
learning_rate: 1.0e-3
steps: 12
batch: 4
crop: 64
evaluate_every: 4
output: weights
"""


def _command(folder: Path, *words: str) -> list[str]:
    plugins = [word for file in TOYS for word in ("--plugin", str(file))]
    return [sys.executable, "-m", "harness", *words[:1], str(folder.with_name("suite.yaml")), *plugins, *words[1:]]


def _run_command(folder: Path, *more: str) -> list[str]:
    return _command(folder, "run", "--out", str(folder), "-q", *more)


def _environment(**more: str) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "SLOW_SECONDS": "0.004", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **threads, **more}


def _finish(command: Sequence[str], count: Count, environment: dict[str, str] | None = None) -> int:
    """Run to the end and count what is said; the exit status, or -1 for one that hangs."""
    process = _start(command, environment or _environment())
    return _wait(process, count)


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def _wait(process: subprocess.Popen[str], count: Count) -> int:
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        count.hangs += 1
        count.notes.append(f"hangs: {said[-200:]}")
        return -1
    count.heard(said)
    if process.returncode != 0 and not count.notes:
        count.notes.append(f"{process.returncode}: {said[-300:]}")
    return process.returncode


def undisturbed(at: Path) -> Undisturbed:
    """Run the suite in a folder with nothing in its way.

    Raises:
        SystemExit: It does not end well, so that there is nothing to compare with.
    """
    at.mkdir(parents=True, exist_ok=True)
    (at / "suite.yaml").write_text(SUITE)
    began, count = time.monotonic(), Count("")
    if _finish(_run_command(at / "run", "--workers", "2"), count) != 0:
        raise SystemExit(f"the undisturbed run failed: {count.notes}")
    return Undisturbed(at / "run", results_of(at / "run"), time.monotonic() - began)


def kills(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """SIGKILL and SIGTERM of the parent, a worker or all, over the whole life of a run, up to five in one folder."""
    count = Count("SIGKILL or SIGTERM at a random moment of a run")
    while count.tried < times:
        with run_place() as folder:
            for _ in range(min(rng.randint(1, 5), times - count.tried)):
                process = _start(_run_command(folder, "--workers", "2"), _environment())
                _sleep(process, rng.uniform(0, whole.seconds))
                number = rng.choice((signal.SIGKILL, signal.SIGTERM))
                _shoot(process, number, rng)
                _wait(process, count)
                count.tried += 1
            _end(folder, whole, count)
    return count


def _sleep(process: subprocess.Popen[str], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)


def _shoot(process: subprocess.Popen[str], number: int, rng: random.Random) -> None:
    workers = _workers(process.pid)
    victim = rng.choice(("all", "parent", "worker"))
    try:
        if victim == "worker" and workers:
            os.kill(rng.choice(workers), number)
        elif victim == "all":
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        pass  # it has just ended


def _workers(pid: int) -> list[int]:
    """Worker processes of a run: below the server that they are copies of, or below the run itself."""
    servers = _children(pid, "forkserver")
    copies = [worker for server in servers for worker in _children(server, "forkserver")]
    return [*_children(pid, "spawn_main"), *copies]


def _children(pid: int, called: str) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in children if called in Path(f"/proc/{c}/cmdline").read_text()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _end(folder: Path, whole: Undisturbed, count: Count, environment: dict[str, str] | None = None) -> None:
    """Finish a disturbed run with nothing in its way, and compare."""
    for _ in range(2):  # a worker that was killed may have left a failure, which the second one mends
        status = _finish(_run_command(folder, "--workers", "2"), count, environment)
        if status == 0:
            break
    if status != 0:
        count.wrong += 1
        count.notes.append(f"ends with {status}")
    count.compare(whole.results, results_of(folder))


def training(times: int, rng: random.Random) -> Count:
    """SIGKILL and SIGTERM over the whole life of a training; its weights are compared."""
    count = Count("SIGKILL or SIGTERM at a random moment of a training")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        began = time.monotonic()
        if _finish(_train(folder / "whole"), count) != 0:
            raise SystemExit(f"the undisturbed training failed: {count.notes}")
        seconds = time.monotonic() - began
        whole = _weights(folder / "whole")
        while count.tried < times:
            place = folder / f"run-{count.tried}"
            for _ in range(min(rng.randint(1, 4), times - count.tried)):
                process = _start(_train(place), _environment())
                _sleep(process, rng.uniform(0, seconds))
                _shoot(process, rng.choice((signal.SIGKILL, signal.SIGTERM)), rng)
                _wait(process, count)
                count.tried += 1
            if _finish(_train(place), count) != 0:
                count.wrong += 1
            count.compare(whole, _weights(place))
    return count


def _train(place: Path) -> list[str]:
    place.mkdir(parents=True, exist_ok=True)
    (place / "recipe.yaml").write_text(RECIPE.replace("output: weights", f"output: {place / 'weights'}"))
    return [sys.executable, "-m", "harness", "train", str(place / "recipe.yaml"), "--out", str(place / "run")]


def _weights(place: Path) -> dict[str, object]:
    return {path.name: path.read_bytes() for path in place.glob("weights*.safetensors")}


def flips(whole: Undisturbed, times: int, rng: random.Random) -> Iterator[Count]:
    """Single bits of files of every kind, each flipped alone, and looked at as `robustiqa check` does."""
    by_kind: dict[str, list[Path]] = {}
    with run_place() as folder:
        apart, groups = folder, folder.with_name("groups")
        scattered(whole.folder, apart)
        of_many_groups(whole.folder, groups)
        for path in sorted(whole.folder.rglob("*")):
            part = path.relative_to(whole.folder).parts
            if path.is_file() and not path.name.startswith("."):
                kind = path.name if part[0] in ("examples", "provenance") else f"*{path.suffix}"
                by_kind.setdefault(f"{part[0]}/{kind}" if len(part) > 1 else path.name, []).append(path)
        by_kind["records/appended/*.parquet"] = sorted(apart.glob("records/appended/*.parquet"))
        by_kind["records/compact/*.parquet of many row groups"] = sorted(groups.glob("records/compact/*.parquet"))
        for kind, paths in by_kind.items():
            count = Count(f"one bit of `{kind}` flipped")
            for _ in range(math.ceil(times / len(by_kind))):
                home = apart if "appended" in kind else groups if "groups" in kind else whole.folder
                _flip(home, rng.choice(paths), rng, count, whole)
            yield count


def _flip(folder: Path, path: Path, rng: random.Random, count: Count, whole: Undisturbed) -> None:
    content, store = path.read_bytes(), RunFolder(folder)
    bit = rng.randrange(8 * len(content))
    altered = bytearray(content)
    altered[bit // 8] ^= 1 << bit % 8
    path.write_bytes(altered)
    try:
        store.soundness.forget()
        if not store.inspect(path, lambda cell: lambda index, table: "") or not store.soundness.damaged():
            count.wrong += 1
            count.notes.append(f"{path.relative_to(folder)} bit {bit} unnoticed")
        if path.is_relative_to(folder / "records"):
            only_true(folder, whole, count, f"bit {bit}")
    except UserError:  # said, and what says it names the file
        pass
    except Exception as error:
        count.tracebacks += 1
        count.notes.append(f"{path.relative_to(folder)} bit {bit}: {error!r}")
    finally:
        path.write_bytes(content)
    count.tried += 1


def together(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """Two and three runs in one folder at the same time, started up to two seconds apart."""
    count = Count("two or three runs in one folder at the same time")
    for _ in range(times):
        with run_place() as folder:
            running = []
            for _ in range(rng.choice((2, 3))):
                running.append(_start(_run_command(folder, "--executor", "serial"), _environment()))
                time.sleep(rng.uniform(0, 2))
            for process in running:
                if _wait(process, count) != 0:
                    count.wrong += 1
                    count.notes.append("one of them did not end well")
            count.compare(whole.results, results_of(folder))
            count.tried += 1
    return count


_FULL_DISK = """
import errno, os, sys
left, real = int(sys.argv.pop(1)), os.fsync
def fsync(handle):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(handle)
os.fsync = fsync
from harness.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The disk is full from the n-th file on: every file is flushed by fsync, which then fails as a full disk makes it."""

_CLOCK = """
import random, sys, time
rng, real, shift = random.Random(int(sys.argv.pop(1))), time.time, 0.0
def jumping():
    global shift
    if rng.random() < .2:
        shift = rng.uniform(-1e6, 1e6)
    return real() + shift
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
from harness.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _wrapped(code: str, argument: int, folder: Path) -> list[str]:
    words = _run_command(folder, "--executor", "serial")[3:]
    return [sys.executable, "-c", code, str(argument), *words]


def disk(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """A disk that is full from a random file on; room is made, and the run goes on."""
    count = Count("a full disk at a random moment, then room again")
    for _ in range(times):
        with run_place() as folder:
            if _finish(_wrapped(_FULL_DISK, rng.randrange(250), folder), count) == 0:
                count.notes.append("the disk was not full before the run was over")
            _end(folder, whole, count)
            count.tried += 1
    return count


def clock(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """A clock that jumps by up to eleven days at every fifth look."""
    count = Count("a clock that jumps while a run is on")
    for _ in range(times):
        with run_place() as folder:
            if _finish(_wrapped(_CLOCK, rng.randrange(10**6), folder), count) != 0:
                count.wrong += 1
            count.compare(whole.results, results_of(folder))
            count.tried += 1
    return count


def stopped(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """A worker that is stopped for some seconds and goes on."""
    count = Count("a worker stopped for seconds, and continued")
    for _ in range(times):
        with run_place() as folder:
            process = _start(_run_command(folder, "--workers", "2"), _environment())
            _sleep(process, rng.uniform(0.2, 0.8) * whole.seconds)
            for worker in _workers(process.pid)[:1]:
                os.kill(worker, signal.SIGSTOP)
                time.sleep(rng.uniform(1, 4))
                os.kill(worker, signal.SIGCONT)
            if _wait(process, count) != 0:
                count.wrong += 1
            count.compare(whole.results, results_of(folder))
            count.tried += 1
    return count


def cache(whole: Undisturbed, times: int, rng: random.Random) -> Count:
    """A cache folder in which nothing can be written, for the embedded data set, which caches what it makes."""
    count = Count("a cache that cannot be written")
    words = ("--limit", "2", "--executor", "serial", "--no-probes", "-q")
    for _ in range(times):
        found = []
        for cache in (rng.choice(("/proc/none", "/dev/null/cache")), ""):
            with tempfile.TemporaryDirectory(prefix="faults-") as name:
                Path(name, "mini.yaml").write_text("name: mini\ndatasets: [mini]\nmetrics: [psnr]\n")
                command = [sys.executable, "-m", "harness", "run", f"{name}/mini.yaml", "--out", f"{name}/run", *words]
                if _finish(command, count, _environment(ROBUSTIQA_CACHE_DIR=cache or f"{name}/cache")) != 0:
                    count.wrong += 1
                found.append(results_of(Path(name, "run")))
        count.compare(found[1], found[0])
        count.tried += 1
    return count


FULL = {
    **{"kills": 100, "compaction": 20, "training": 40, "flips": 1000, "moved": 100, "mutants": 1000, "together": 10},
    **{"disk": 20, "clock": 5, "stopped": 5, "cache": 2},
}
"""Part -> how many faults of it; of `mutants` for each of five kinds of file."""


def campaign(parts: Sequence[str], share: float, seed: int) -> Iterator[Count]:
    """Every part that is asked for, one count after the other.

    Args:
        parts: Of `FULL`.
        share: Of the faults of each.
        seed: Of everything drawn.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        needed = [part for part in parts if part not in ("training", "mutants")]
        whole = undisturbed(Path(name)) if needed else Undisturbed(Path(name), {}, 0.0)
        for part in parts:
            times, rng = max(1, round(share * FULL[part])), random.Random(f"{seed} {part}")
            if part == "mutants":
                yield from mutants(times, rng)
            elif part == "flips":
                yield from flips(whole, times, rng)
            elif part == "training":
                yield training(times, rng)
            else:
                yield {f.__name__: f for f in (kills, compaction, moved, together, disk, clock, stopped, cache)}[part](
                    whole, times, rng
                )


def table(counts: Sequence[Count]) -> str:
    """The counts as a table in Markdown."""
    columns = ("fault", "tried", "lost", "double", "wrong", "tracebacks", "hangs")
    rows = [[str(asdict(count)[column]) for column in columns] for count in counts]
    lines = [columns, ["---", *["---:"] * 6], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*FULL, []], metavar="PART", help=", ".join(FULL))
    parser.add_argument("--share", type=float, default=1.0, help="of the faults of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for the table")
    options = parser.parse_args()
    counts = []
    for count in campaign(options.parts or list(FULL), options.share, options.seed):
        counts.append(count)
        print(f"{count.fault}: {count.tried} tried, {count.bad()} bad", file=sys.stderr, flush=True)
        for note in count.notes[:5] if count.bad() else ():
            print(f"    {note}", file=sys.stderr, flush=True)
    print(table(counts))
    if options.out:
        options.out.write_text(table(counts) + "\n", encoding="utf-8")
    return 1 if any(count.bad() for count in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
