"""What plugins do to the process: undone, or their fault under their name; a Ctrl-C stays the user's."""

import contextlib
import os
import random
import signal
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.contracts import Budget, SampleRng
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.errors import PluginFaultError, raised_in
from harness.plugins.guard import announce_to, calling
from harness.plugins.registry import Registry

WHO = "metric 'mine' from mine.py"


def filters():
    return list(warnings.filters)


@pytest.fixture(autouse=True)
def answered_ctrl_c():
    """Python's own answer to Ctrl-C, which a process that was started in the background does not begin with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


CHANGES = {
    "directory": (lambda: os.chdir("/"), Path.cwd),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "deterministic": (
        lambda: torch.set_deterministic_debug_mode("warn"),
        torch.get_deterministic_debug_mode,
    ),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "matmul": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "cudnn": (
        lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "numpy errors": (lambda: np.seterr(all="raise"), np.geterr),
    "warnings": (lambda: warnings.simplefilter("error"), filters),
    "standard output": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
    "Ctrl-C": (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGINT)),
    "termination": (lambda: signal.signal(signal.SIGTERM, print), lambda: signal.getsignal(signal.SIGTERM)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_plugin_changes_is_put_back_however_it_ends(change):
    make, look = CHANGES[change]
    before = look()
    with calling(WHO):
        make()
        assert look() != before, "nothing was changed, so nothing is tested"
    assert look() == before
    with pytest.raises(ValueError, match=r"^its own$"), calling(WHO):
        make()
        raise ValueError("its own")
    assert look() == before


@pytest.mark.parametrize("change", ["threads", "dtype", "gradients", "deterministic", "anomaly"])
def test_what_bends_numbers_is_put_back_after_a_call_within_a_call_too(change):
    make, look = CHANGES[change]
    before = look()
    with calling("attack 'a' from a.py", "perturb"):
        with calling(WHO, "score"):
            make()
        assert look() == before


@pytest.mark.parametrize("handler", [print, signal.SIG_DFL])
def test_an_alarm_that_a_plugin_set_does_not_go_off_later(handler):
    with calling(WHO):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1000)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


class OfItsOwn(BaseException):
    pass


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: sys.exit(0), r"SystemExit: 0"),
        (lambda: quit(), r"SystemExit"),
        (lambda: os._exit(0), r"SystemExit: os\._exit\(0\)"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt"),
        (lambda: (_ for _ in ()).throw(OfItsOwn("x")), "OfItsOwn: x"),
    ],
)
def test_what_would_end_the_program_is_the_plugins_fault(end, said):
    leave = os._exit
    said = rf"^{WHO}: score\(\) raised {said} \(test_guard.py:\d+\); a plugin must not end the program$"
    with pytest.raises(PluginFaultError, match=said), calling("attack 'a' from a.py", "perturb"), calling(WHO, "score"):
        end()
    assert os._exit is leave
    with pytest.raises(PluginFaultError, match=r"^block 3: a plugin raised"), calling("block 3", ours=True):
        end()


def test_other_errors_pass_with_a_note_of_whose_they_are():
    with pytest.raises(KeyError) as seen, calling("attack 'a' from a.py", "perturb"), calling(WHO, "score"):
        raise KeyError("x")
    assert raised_in(seen.value) == f"{WHO}: score()"
    with pytest.raises(KeyError) as seen, calling("block 3", ours=True):
        raise KeyError("x")
    assert raised_in(seen.value) == ""


def swallow():
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGINT)


def wrap():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise RuntimeError("cannot score") from error


@pytest.mark.parametrize("plugin", [lambda: signal.raise_signal(signal.SIGINT), swallow, wrap])
def test_a_real_ctrl_c_stays_one_whatever_the_plugin_makes_of_it(plugin):
    with pytest.raises(KeyboardInterrupt), calling(WHO):
        plugin()
    with (
        pytest.raises(KeyboardInterrupt),
        calling("attack 'a' from a.py"),
        contextlib.suppress(Exception),
        calling(WHO),
    ):
        plugin()
    with pytest.raises(KeyboardInterrupt), calling("block 3", ours=True), calling(WHO):
        plugin()
    with calling(WHO):
        pass  # it is over


def test_a_ctrl_c_that_only_asks_to_stop_reaches_who_asked_for_it():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with calling(WHO):
            signal.raise_signal(signal.SIGINT)
            went_on = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with calling(WHO):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] and went_on


def test_a_child_that_a_plugin_forks_does_not_go_on_as_a_second_run():
    with calling(WHO):
        child = os.fork()
    # Only the parent comes here.
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_it_is_told_whose_code_runs():
    told = []
    announce_to(told.append)
    try:
        with calling("block 3", ours=True), calling("attack 'a' from a.py", "perturb"), calling(WHO, "score"):
            pass
    finally:
        announce_to(lambda who: None)
    attack = "attack 'a' from a.py: perturb()"
    assert told == ["", attack, f"{WHO}: score()", attack, "", ""]


# --- through the registry


def plugin(folder, text, name="mine.py"):
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return Registry([file])


METRIC = """
    import torch
    from harness.contracts import Metric, register

    @register("mine")
    class Mine(Metric):
        higher_is_better = True

        @classmethod
        def cited(cls, parameters):
            raise SystemExit

        def __init__(self, *, exit: bool = False):
            if exit:
                raise SystemExit(3)
            super().__init__()

        def encode(self, ref):
            raise KeyboardInterrupt

        def score(self, reference, dist):
            torch.set_default_dtype(torch.float64)
            dist.register_hook(self.leave)
            return dist.flatten(1).mean(1)

        def leave(self, gradient):
            raise SystemExit(4)
"""


def test_every_method_of_a_plugin_passes_through(tmp_path):
    found = plugin(tmp_path, METRIC).metric("mine")
    who = rf"^metric 'mine' from {tmp_path}/mine.py: "
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    with pytest.raises(PluginFaultError, match=rf"{who}__init__\(\) raised SystemExit: 3 \(mine.py:15\)"):
        found.build({"exit": True})
    with pytest.raises(PluginFaultError, match=rf"{who}cited\(\)"):
        found.cls.cited({})
    metric = found.build({})
    with pytest.raises(PluginFaultError, match=rf"{who}encode\(\)"):
        metric(ref=image, dist=image)
    score = metric.score(image, image)
    assert torch.get_default_dtype() == torch.float32
    objective = ScorerObjective(
        Scorer(metric, (), ["metric 'mine'"]),
        image.detach(),
        image.detach(),
        torch.ones(1),
        Budget("linf", torch.full((1,), 0.1)),
        SampleRng([]),
        encoded=(image.detach(), ()),
    )
    with pytest.raises(PluginFaultError, match=r"^metric 'mine': backward\(\) raised SystemExit: 4"):
        objective.gradient(image)
    assert score.shape == (1,)


def test_each_step_of_a_generator_passes_through(tmp_path):
    text = """
        from dataclasses import dataclass
        from harness.contracts import Recipe, register

        @register("mine")
        @dataclass(frozen=True)
        class Mine(Recipe):
            batch: int = 1

            def batches(self, entries, rng):
                yield [0], [False]
                raise SystemExit

            def loss(self, metric, batch):
                return 0, {}
    """
    batches = plugin(tmp_path, text).recipe("mine").build({}).batches([], np.random.default_rng(0))
    assert next(batches) == ([0], [False])
    with pytest.raises(PluginFaultError, match=r"recipe 'mine' from .*: batches\(\)"):
        next(batches)


def test_importing_a_plugin_leaves_the_process_as_it_was(tmp_path):
    def drawn():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = drawn(), Path.cwd(), torch.get_default_dtype(), filters()
    text = f"""
        import os, random, warnings
        import numpy, torch
        random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
        os.chdir("/"), torch.set_default_dtype(torch.float64), warnings.simplefilter("error")
        {textwrap.indent(textwrap.dedent(METRIC), "        ").strip()}
    """
    assert plugin(tmp_path, text).names("metrics").count("mine") == 1
    assert (drawn(), Path.cwd(), torch.get_default_dtype(), filters()) == before
