"""What the tests of networks share: deterministic weights and images, and what published networks make of them."""

import importlib.util

import pytest


@pytest.fixture(scope="session")
def fixture(test_data):
    """The module `fixture.py` of the test material."""
    spec = importlib.util.spec_from_file_location("fixture", test_data / "fixture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
