"""A weight file of one's own as safetensors, under other names where it has to be."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from harness.files import write_whole
from harness.plugins.weights.manifest import SUFFIX, WeightsError
from harness.plugins.weights.prefixes import under_prefix
from harness.plugins.weights.state_dicts import read_tensors


def convert_file(file: Path, out: Path, remove: str = "", add: str = "", key: str = "") -> list[str]:
    """Write a weight file as safetensors, under other names.

    Args:
        file: A safetensors file, or one of torch's, which is read as tensors alone.
        out: The new file.
        remove: What every name begins with, and is taken away; may be empty.
        add: What is put in front; may be empty.
        key: Where the tensors are, in a file of torch's that has more than them.

    Returns:
        The new names.

    Raises:
        WeightsError: The file cannot be read, not every name begins so, or the new file is there or cannot be written.
    """
    if out.suffix.lower() != SUFFIX:
        raise WeightsError(f"weights convert {file}: {out} should end in {SUFFIX}. Give --out such a name.")
    if out.exists():
        raise WeightsError(f"weights convert {file}: {out} is there already. Give another name with --out.")
    try:
        tensors = read_tensors(file.read_bytes(), file, key)
        without = [name for name in tensors if not name.startswith(remove)]
        if without:
            raise WeightsError(f"weights convert {file}: {without[0]} does not begin with '{remove}'. Mend --remove.")
        new = under_prefix(tensors, remove, add)
        write_whole(out, save({name: tensor.detach().clone().contiguous() for name, tensor in new.items()}))
    except OSError as error:
        raise WeightsError(f"weights convert: {error.filename or file}: {error.strerror or error}.") from error
    return sorted(new)
