import sys

from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Ends the program."""

    higher_is_better = True

    def score(self, reference, dist):
        sys.exit(0)
