from harness.contracts import Metric


class Forgotten(Metric):
    """A metric without @register."""

    higher_is_better = True
