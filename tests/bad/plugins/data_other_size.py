import torch

from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """Reference and distorted image differ in size."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        return {"ref": torch.zeros(3, 8, 8), "dist": torch.zeros(3, 8, 9)}

    def fingerprint(self):
        return "bad"
