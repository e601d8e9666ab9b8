from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """A data set."""

    levels_not_strength = {18: "signed"}

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        raise NotImplementedError

    def fingerprint(self):
        return "x"
