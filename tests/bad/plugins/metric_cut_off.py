from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """No gradient reaches the images."""

    higher_is_better = True

    def score(self, reference, dist):
        return -(dist.detach() - reference).abs().flatten(1).mean(1)
