import torch

from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """No distorted image."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        return {"ref": torch.zeros(3, 8, 8)}

    def fingerprint(self):
        return "bad"
