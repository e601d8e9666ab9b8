import torch

from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """Images as doubles."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        image = torch.zeros(3, 8, 8, dtype=torch.float64)
        return {"ref": image, "dist": image}

    def fingerprint(self):
        return "bad"
