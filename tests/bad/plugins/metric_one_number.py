from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """One number for the whole batch."""

    higher_is_better = True

    def score(self, reference, dist):
        return (dist - reference).mean()
