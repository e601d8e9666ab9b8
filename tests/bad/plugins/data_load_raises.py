from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """Raises."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        raise KeyError(entry.id)

    def fingerprint(self):
        return "bad"
