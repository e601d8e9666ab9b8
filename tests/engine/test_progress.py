"""What a person sees while a suite runs, on a terminal and elsewhere."""

import io
import re
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

import harness.engine.progress as progress
import harness.engine.worker as worker
from harness.engine.progress import ConsoleProgress, Progress, duration
from harness.engine.worker import Done
from harness.flow import Options, run_suite


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


def console(terminal):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=120, record=True, color_system=None, legacy_windows=False
    )


def job(label):
    return SimpleNamespace(id="id", label=f"probe {label}")


def lines_of(shown):
    return shown.file.getvalue().splitlines()


def drawn(bar):
    """What is on the screen at this moment."""
    page = console(terminal=True)
    page.print(bar._live.get_renderable())
    return page.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (12, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (200, "3 min 20 s"),
        (599.4, "9 min 59 s"),
        (599.9, "10 min"),
        (629, "10 min"),
        (631, "11 min"),
        (3560, "59 min"),
        (3569.4, "59 min"),
        (3599.4, "1 h 00 min"),
        (3599.9, "1 h 00 min"),
        (7199, "2 h 00 min"),
        (7500, "2 h 05 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_durations_are_told_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_no_duration_has_60_of_anything():
    for tenth in range(0, 80_000):
        text = duration(tenth / 10)
        assert not re.search(r"\b60\b", text), (tenth / 10, text)


def test_longer_is_never_told_as_shorter():
    def length(text):
        units = {"s": 1, "min": 60, "h": 3600}
        return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", text))

    told = [length(duration(tenth / 10)) for tenth in range(0, 120_000)]
    assert told == sorted(told)
    assert all(abs(length(duration(s)) - s) <= 30 for s in range(0, 12_000))


def test_plain_lines_where_there_is_no_terminal(clock):
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 4, 2)
        bar.began(0, job("first"))
        clock.now += 20
        bar.done(Done("mini test / psnr / slice 0"))
        clock.now += 5
        bar.done(Done("mini test / psnr / slice 1"))
        clock.now += 15
        bar.done(Done("mini test / psnr / slice 2"))
        bar.done(Done("mini test / psnr / slice 3"))
    assert lines_of(shown) == [
        "attacking and scoring: 0 of 4",
        "attacking and scoring: 1 of 4, 3/min, 1 min 0 s left; last: mini test / psnr / slice 0",
        "attacking and scoring: 3 of 4, 4.5/min, 13 s left; last: mini test / psnr / slice 2",
        "attacking and scoring: 4 of 4, 6/min, took 40 s",
    ]
    assert "\x1b" not in shown.file.getvalue()


def test_what_is_left_goes_by_the_lengths_of_jobs(clock):
    """The longest come first: of 90 s a block of 45 s is half, though it is one of four."""
    with ConsoleProgress(shown := console(False)) as bar:
        bar.stage("blocks", 4, 1, None, {"probe a": 45.0, "probe b": 30.0, "probe c": 10.0, "probe d": 5.0})
        for name, seconds in (("a", 45), ("b", 30)):
            bar.began(0, job(name))
            clock.now += seconds
            bar.done(Done(job(name).label, 1))
    left = [line.partition("min, ")[2].partition(" left")[0] for line in lines_of(shown)[1:]]
    assert left == ["45 s", "15 s"]


def test_every_stage_has_its_name_and_its_last_line(clock):
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        for stage in ("probes", "calibration", "fits", "another"):
            bar.stage(stage, 2, 1)
            for number in range(2):
                clock.now += 1
                bar.done(Done(f"job {number}"))
    ends = [line for line in lines_of(shown) if ": 2 of 2, 60/min, took 2 s" in line]
    assert [end.partition(":")[0] for end in ends] == [
        "probing metrics",
        "calibrating scorers",
        "fitting attacks",
        "another",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_failed_jobs_are_named(clock, terminal):
    shown = console(terminal)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 2, 1)
        bar.done(Done("mini [test] / my[bold]metric / slice 0", failed=2))
        bar.done(Done("mini test / psnr / slice 1"))
    text = shown.export_text()
    assert "failed: mini [test] / my[bold]metric / slice 0" in text
    assert "failed: mini test / psnr" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_label_stays_on_its_line(clock, terminal):
    label = " / ".join(["a very long name of a data set"] * 9)
    shown = console(terminal)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 2, 1)
        clock.now += 20
        bar.done(Done(label, failed=1))
    assert f"failed: {label}\n" in shown.export_text()
    if not terminal:
        assert lines_of(shown)[-1] == f"attacking and scoring: 1 of 2, 3/min, 20 s left; last: {label}"


@pytest.mark.parametrize("name", ["cal[i]bration", "[/]", "[bold]"])
def test_markup_in_the_name_of_a_stage_is_shown_as_it_is(clock, name):
    for terminal in (True, False):
        shown = console(terminal)
        with ConsoleProgress(shown) as bar:
            bar.stage(name, 1, 1)
            assert not terminal or name in drawn(bar)
        assert name in shown.export_text()


def test_a_bar_and_a_line_for_each_worker_on_a_terminal(clock):
    shown = console(terminal=True)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 12, 2)
        assert re.search(r"attacking and scoring.* 0/12", drawn(bar))
        assert re.search(r"worker 1: starting.*\n *worker 2: starting", drawn(bar))
        bar.began(0, job("[red]psnr[/red]"))
        bar.began(1, job("my[/]metric"))
        clock.now += 20
        bar.done(Done("a"))
        bar.done(Done("b"))
        page = drawn(bar)
        assert re.search(r"attacking and scoring.* 2/12 +6/min, 1 min 40 s left", page)
        assert "worker 1: probe [red]psnr[/red]" in page and "worker 2: probe my[/]metric" in page
        bar.began(0, job("next"))
        assert "worker 1: probe next" in drawn(bar)
        bar.stage("fits", 1, 2)
        page = drawn(bar)
        assert "fitting attacks" in page and "attacking and scoring" not in page
        assert "worker 1: starting" in page and "worker 2" not in page, "no more workers than jobs"


def test_a_worker_that_is_lost_is_not_counted_as_working(clock):
    for terminal in (True, False):
        shown = console(terminal)
        with ConsoleProgress(shown) as bar:
            bar.stage("blocks", 4, 2)
            bar.began(0, job("first"))
            bar.began(1, job("second"))
            bar.at(1, "30 of 40 cells: pgd up")
            bar.at(1, "")
            assert not terminal or "worker 2: lost" in drawn(bar)
            clock.now += 20
            bar.at(0, "20 of 40 cells: pgd up")
        if not terminal:
            assert lines_of(shown)[-1].endswith("; now probe first: 20 of 40 cells: pgd up")


def test_nothing_but_failures_stays_on_a_terminal(clock):
    """Bars are wiped off at the end; the tables of the run follow."""
    shown = console(terminal=True)
    with ConsoleProgress(shown) as bar:
        bar.stage("probes", 2, 1)
        clock.now += 60
        bar.done(Done("psnr"))
        bar.done(Done("ssim", failed=1))
    assert [line for line in shown.export_text().splitlines() if line.startswith("failed")] == ["failed: ssim"]
    assert "probing metrics: 2 of 2" not in shown.file.getvalue()


def test_the_terminal_is_left_as_it_was_after_an_error(clock):
    shown = console(terminal=True)
    with pytest.raises(KeyboardInterrupt), ConsoleProgress(shown) as bar:
        bar.stage("blocks", 2, 1)
        raise KeyboardInterrupt
    assert not bar._live.is_started
    assert shown.file.getvalue().rindex("\x1b[?25h") > shown.file.getvalue().rindex("\x1b[?25l"), "the cursor is back"


def test_a_stage_that_takes_no_time_has_a_rate(clock):
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 1, 1)
        bar.done(Done("a"))
    assert lines_of(shown)[-1] == "attacking and scoring: 1 of 1, took 0 s"


def test_large_rates_are_told_in_plain_digits(clock):
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 100, 1)
        for _ in range(100):
            clock.now += 0.01
            bar.done(Done("a"))
    assert lines_of(shown)[-1] == "attacking and scoring: 100 of 100, 6000/min, took 1 s"


def test_silence(capfd):
    with Progress() as quiet:
        quiet.stage("blocks", 1, 1)
        quiet.began(0, job("a"))
        quiet.done(Done("a", failed=1))
    assert capfd.readouterr() == ("", "")


def test_how_far_a_worker_is_stands_in_its_line(clock):
    shown = console(terminal=True)
    with ConsoleProgress(shown) as bar:
        bar.stage("fits", 2, 1)
        bar.began(0, job("facpa"))
        bar.at(0, "12 of 200 batches")
        assert "worker 1: probe facpa: 12 of 200 batches" in drawn(bar)
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("fits", 2, 1)
        bar.began(0, job("facpa"))
        for second in range(25):
            clock.now += 1
            bar.at(0, f"{second} of 200 batches")
    told = [line for line in lines_of(shown) if "batches" in line]
    assert told == [
        "fitting attacks: 0 of 2, about 7 min 9 s left; now probe facpa: 10 of 200 batches",
        "fitting attacks: 0 of 2, about 6 min 37 s left; now probe facpa: 21 of 200 batches",
    ], "a line every ten seconds"


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_fit_says_how_far_it_is(suite_of, registry, tmp_path, executor):
    text = """
name: fit
datasets: [toy]
metrics: [linear]
attacks: [{name: facpa, width: 2, depth: 1, iterations: 5}]
budgets: {linf: [8/255]}
directions: [up]
limit: 1
"""
    heard = []

    class Heard(Progress):
        def at(self, worker, text):
            heard.append((worker, text))

    options = Options(out=tmp_path / "run", executor=executor, workers=1, probe=False)
    result = run_suite(suite_of(text), registry, options, Heard())
    assert result.failed == 0 and (0, "0 of 5 batches") in heard
    assert heard[0] == (0, "0 of 20 samples") and "of 2 cells: " in heard[-1][1]


def test_what_is_left_is_told_before_the_first_block_has_ended(clock):
    """By what earlier runs measured where there is any, otherwise by the cells done; two workers' parts add up."""
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 12, 2, 660.0)
        bar.began(0, job("first"))
        clock.now += 30
        bar.at(0, "2 of 40 cells: pgd up, 120 evaluations")
    assert lines_of(shown) == [
        "attacking and scoring: 0 of 12, about 11 min left, by earlier runs",
        "attacking and scoring: 0 of 12, about 10 min left, by earlier runs; "
        "now probe first: 2 of 40 cells: pgd up, 120 evaluations",
    ]
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 4, 2)
        bar.began(0, job("first"))
        bar.began(1, job("second"))
        clock.now += 20
        bar.at(0, "10 of 40 cells: pgd up")
        clock.now += 20
        bar.at(1, "10 of 40 cells: pgd down")
        bar.done(Done("probe first"))
    assert lines_of(shown)[1:3] == [
        "attacking and scoring: 0 of 4, about 5 min 0 s left; now probe first: 10 of 40 cells: pgd up (and 1 other worker)",
        "attacking and scoring: 0 of 4, about 4 min 40 s left; now probe second: 10 of 40 cells: pgd down (and 1 other worker)",
    ]
    shown = console(terminal=True)
    with ConsoleProgress(shown) as bar:
        bar.stage("blocks", 4, 1)
        bar.began(0, job("first"))
        clock.now += 20
        bar.at(0, "20 of 40 cells: pgd up")
        assert re.search(r" 0/4 +about 2 min 20 s left", drawn(bar)), "half of the first of four"


def test_without_a_terminal_a_silent_job_is_told_of_too(clock, monkeypatch):
    monkeypatch.setattr(progress, "_LOOKED_EVERY_S", 0.01)
    shown = console(terminal=False)
    with ConsoleProgress(shown) as bar:
        bar.stage("probes", 3, 1)
        bar.began(0, job("slow"))
        clock.now += 26
        for _ in range(3000):  # half a minute at most: the clock stands still
            if len(lines_of(shown)) > 1:
                break
            time.sleep(0.01)
    assert lines_of(shown)[1] == "probing metrics: 0 of 3; now probe slow"


def test_a_block_says_which_of_its_cells_it_is_at_and_what_runs_measured_tells_how_long(
    suite_of, registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "_TELL_EVERY_S", 0.0)
    text = """
name: blocks
datasets: [{name: toy, references: 4}]
metrics: [linear]
attacks: [{name: pgd, steps: 3}]
budgets: {linf: [8/255]}
directions: [up]
slice: 4
"""
    heard, stages = [], []

    class Heard(Progress):
        def stage(self, name, total, workers, expected=None, lengths=()):
            stages.append((name, expected))

        def at(self, worker, text):
            heard.append(text)

    def run(name):
        return run_suite(
            suite_of(text), registry, Options(out=tmp_path / name, executor="serial", probe=False), Heard()
        )

    run("first")
    first = [text for text in heard if "cells" in text]
    assert first[0].startswith("0 of 2 cells: clean") and "1 of 2 cells: pgd(steps=3) up, 3 evaluations" in first
    assert dict(stages)["blocks"] is None
    run("second")
    assert dict(stages)["blocks"] > 0, "what the run beside it measured"
