from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """On another device."""

    higher_is_better = True

    def score(self, reference, dist):
        return (dist - reference).flatten(1).mean(1).to("meta")
