import numpy as np

from harness.contracts import Dataset, Entry, register


@register("bad_data")
class Bad(Dataset):
    """Arrays in place of tensors."""

    def entries(self, split):
        return [Entry("a", "a", opinion=0.5), Entry("b", "b", opinion=1.0)]

    def load(self, entry):
        return {"ref": np.zeros((3, 8, 8)), "dist": np.zeros((3, 8, 8))}

    def fingerprint(self):
        return "bad"
