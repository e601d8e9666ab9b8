import sys

from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Ends the program when it is built."""

    higher_is_better = True

    def __init__(self):
        sys.exit(0)

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)
