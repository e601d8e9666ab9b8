"""The conformance kit: does a plugin keep its contract? For plugin authors, in their own tests.

    from harness.testing import check_metric

    def test_my_metric():
        check_metric(MyMetric())

Each check probes one plugin on small made images on the CPU, and raises `ConformanceError` with every broken rule of
`harness.contracts`: what was seen, and how to mend it.
"""

from harness.testing.attacks import check_attack
from harness.testing.common import ConformanceError, Fault, distorted, natural
from harness.testing.datasets import check_dataset
from harness.testing.metrics import check_metric
from harness.testing.purifiers import check_purifier
from harness.testing.recipes import check_recipe

__all__ = [
    "ConformanceError",
    "Fault",
    "check_attack",
    "check_dataset",
    "check_metric",
    "check_purifier",
    "check_recipe",
    "distorted",
    "natural",
]
