from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """A data set."""

    def entries(self, split):
        return {}["x"]

    def load(self, entry):
        raise NotImplementedError

    def fingerprint(self):
        return "x"
