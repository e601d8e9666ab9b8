from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Forgot to return."""

    higher_is_better = True

    def score(self, reference, dist):
        (dist - reference).flatten(1).mean(1)
