from harness.contracts import register


@register("bad_metric")
def bad(reference, dist):
    return 0
