from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """A metric."""

    higher_is_better = True

    def __init__(self, *, gain: "Gain" = 1.0):
        super().__init__()

    def score(self, reference, dist):
        return -(dist - reference).abs().flatten(1).mean(1)
