"""What the tests of the kit share: how a fault is caught, and which plugins are shipped."""

import pytest

from harness.plugins.registry import Registry
from harness.testing import ConformanceError

OURS = ("metrics_zoo", "attacks", "defenses", "harness")


def pytest_generate_tests(metafunc):
    """`shipped` is every shipped plugin of the kind that the test's module is called by; others answer for themselves."""
    if "shipped" in metafunc.fixturenames:
        kind, registry = metafunc.module.__name__.rpartition("test_")[2], Registry()
        found = [n for n in registry.names(kind) if registry.source(kind, n).origin.split(".")[0] in OURS]
        metafunc.parametrize("shipped", found)


@pytest.fixture(scope="session")
def rules_of():
    """Check a plugin that breaks its contract -> the rules it breaks."""

    def rules(check, plugin, **options):
        with pytest.raises(ConformanceError) as caught:
            check(plugin, **options)
        for fault in caught.value.faults:
            for part in (fault.rule, fault.seen, fault.cure, type(plugin).__name__):
                assert part in str(caught.value)
        return [fault.rule for fault in caught.value.faults]

    return rules


@pytest.fixture(scope="session")
def assert_caught(rules_of):
    """Check that a plugin breaks a rule."""

    def caught(check, plugin, rule, **options):
        rules = rules_of(check, plugin, **options)
        assert any(rule in r for r in rules), rules

    return caught
