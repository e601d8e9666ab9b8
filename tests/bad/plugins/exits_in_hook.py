from harness.contracts import Metric, register


def leave(slope):
    raise SystemExit(0)


@register("bad_metric")
class Bad(Metric):
    """Ends the program on its way back."""

    higher_is_better = True

    def score(self, reference, dist):
        if dist.requires_grad:
            dist.register_hook(leave)
        return dist.flatten(1).mean(1)
