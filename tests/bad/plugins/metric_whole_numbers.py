from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Whole numbers."""

    higher_is_better = True

    def score(self, reference, dist):
        return (dist * 255).flatten(1).mean(1).long()
