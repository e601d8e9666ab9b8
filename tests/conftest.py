"""What many tests share: the toy plugins and a way to run a suite written in the test."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from harness.datasets.mini.labels import _import_piq
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.resolve import validate
from harness.suite.strict_yaml import parse_text

TOY = Path(__file__).parent / "toys" / "toy.py"


def pytest_configure():
    """Commands that tests start share the cores with the other test processes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def piq():
    """The library piq, imported without torchvision, or a skip."""
    if importlib.util.find_spec("piq") is None:
        pytest.skip("pip install --no-deps piq==0.8.0")
    return _import_piq()


@pytest.fixture(scope="session")
def toy_file():
    return TOY


@pytest.fixture(scope="session")
def registry():
    return Registry([TOY])


@pytest.fixture
def suite_of(registry):
    """Text of a suite -> the validated suite."""
    return lambda text: validate(parse_text(text, "suite.yaml"), registry)


@pytest.fixture
def run_toy(registry, suite_of):
    """Run a suite written as text, in this process unless said otherwise."""

    def run(text, out, **options):
        return run_suite(
            suite_of(text), registry, Options(out=out, **{"executor": "serial", "probe": False, **options})
        )

    return run


@pytest.fixture(scope="session")
def test_data():
    """The folder of real material, or a skip."""
    folder = os.environ.get("ROBUSTIQA_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ROBUSTIQA_TEST_DATA names no folder of real test material")
    return Path(folder)
