from harness.contracts import Metric, register


@register("bad_metric")
class Bad(Metric):
    """Ends the program when asked for its paper."""

    higher_is_better = True

    @classmethod
    def cited(cls, parameters):
        quit()

    def score(self, reference, dist):
        return dist.flatten(1).mean(1)
