from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Infinite unless the images are equal."""

    higher_is_better = True

    def score(self, reference, dist):
        return 1 / (dist - dist).flatten(1).mean(1)
