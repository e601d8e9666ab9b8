import torch

from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """Images with a batch axis."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        return {"ref": torch.zeros(1, 3, 8, 8), "dist": torch.zeros(1, 3, 8, 8)}

    def fingerprint(self):
        return "bad"
