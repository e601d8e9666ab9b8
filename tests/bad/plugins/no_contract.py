from harness.contracts import register


@register("bad_metric")
class Bad:
    """No subclass of anything."""
