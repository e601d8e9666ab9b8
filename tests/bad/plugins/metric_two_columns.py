from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Two numbers for each image."""

    higher_is_better = True

    def score(self, reference, dist):
        return (dist - reference).flatten(2).mean(2)[:, :2]
