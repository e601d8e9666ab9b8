"""The seal of a file: its own name and a digest over all of its bytes, kept in the file itself.

A seal is the text ``robustiqa-seal:<sha256>:<name>;`` under the key ``sealed-sha256``, wherever a format keeps such a
thing: a key of a JSON object, the last element of a JSON list, a comment in the first line of a text, a key of the
metadata of a parquet or safetensors file. Any reader of the format opens a sealed file. The sha256 is over the whole
file with its 64 digits written as zeros, so that one file, written at once, is whole or not by itself, and every bit of
it counts. The name is its path within the folder that it belongs to: a copy under another name does not fit.

A file with neither the key nor the beginning of the text was written before there were seals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

KEY = "sealed-sha256"
_MARK = b"robustiqa-seal:"
_NO_DIGITS = b"0" * 64
_LONGEST_NAME = 4096
_TEXTS = (".yaml", ".txt")


def unfilled(name: str) -> str:
    """The seal of a file before its digest is known; `filled` puts it in."""
    return f"{_MARK.decode()}{_NO_DIGITS.decode()}:{quote(name)};"


def filled(content: bytes, name: str) -> bytes:
    """A file in which its unfilled seal stands, with its digest; whatever else looks like a seal is content."""
    at = _place(content, unfilled(name).encode(), name) + len(_MARK)
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + len(_NO_DIGITS) :]


def is_sealed(content: bytes) -> bool:
    """Whether a file carries a seal, or what one damaged bit leaves of it."""
    return _MARK in content or KEY.encode() in content


def broken(content: bytes, name: str) -> str:
    """What is wrong with a sealed file of that name, empty if nothing is."""
    at = _place(content, _MARK, name) + len(_MARK)
    digits, rest = content[at : at + len(_NO_DIGITS)], content[at + len(_NO_DIGITS) :]
    digest = hashlib.sha256(content[:at])
    digest.update(_NO_DIGITS)
    digest.update(rest)
    if at < len(_MARK) or digest.hexdigest().encode() != digits:
        return "its bytes are not those that were sealed"
    sealed = rest[1 : rest.find(b";", 0, _LONGEST_NAME)]
    return "" if sealed == quote(name).encode() else f"it was written as {unquote(sealed.decode())}"


def digits_in(end: bytes) -> int:
    """Where the digest of the seal stands in what a parquet file ends with; -1 where there is none."""
    at = end.rfind(_MARK)
    return at + len(_MARK) if at >= 0 else -1


def name_in(end: bytes) -> str:
    """What a parquet file was sealed as, by what it ends with; empty where that cannot be read."""
    rest = end[digits_in(end) + len(_NO_DIGITS) :]
    return unquote(rest[1 : rest.find(b";", 0, _LONGEST_NAME)].decode(errors="replace")) if digits_in(end) > 0 else ""


def _place(content: bytes, mark: bytes, name: str) -> int:
    """Where the seal of a file of that name begins; -1 where there is none. What it holds may look like one."""
    if name.endswith(".safetensors"):
        return content.find(mark)  # of its metadata, which come first
    return (content.partition(b"\n")[0] if name.endswith(_TEXTS) else content).rfind(mark)


def sealed_json(text: str, name: str) -> bytes:
    """A JSON object or list with its seal as the last key or element."""
    body, end = text.rstrip()[:-1].rstrip(), text.rstrip()[-1]
    pair = f'"{KEY}": "{unfilled(name)}"'
    comma = "" if body in ("{", "[") else ","
    return filled(f"{body}{comma}\n {pair if end == '}' else f'{{{pair}}}'}\n{end}\n".encode(), name)


def without_seal(value: Any) -> Any:
    """What a JSON file holds beside its seal."""
    if isinstance(value, dict):
        return {key: one for key, one in value.items() if key != KEY}
    if isinstance(value, list) and value and isinstance(value[-1], dict) and value[-1].keys() == {KEY}:
        return value[:-1]
    return value


def sealed_text(text: str, name: str, more: str = "") -> bytes:
    """A text with its seal behind the first line; of YAML a comment.

    Args:
        text: Its first line holds no quote or bracket that ends in another one.
        name: What the file is called.
        more: What else the comment says.
    """
    first, *rest = text.split("\n", 1)
    return filled("\n".join([f"{first}  # {KEY} {unfilled(name)}{more}", *rest]).encode(), name)


def without_comment(text: str) -> str:
    """A text without the seal behind its first line."""
    first, *rest = text.split("\n", 1)
    return "\n".join([first.partition(f"  # {KEY}")[0], *rest])


def sealed_tensors(tensors: Mapping[str, Tensor], name: str) -> bytes:
    """Tensors as a safetensors file."""
    from safetensors.torch import save

    whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    return filled(save(whole, {KEY: unfilled(name)}), name)


def sealed_table(table: pa.Table, name: str, about: Mapping[str, str]) -> bytes:
    """A table as a parquet file.

    Args:
        table: The table.
        name: What the file is called.
        about: What else its metadata say.
    """
    import io

    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    whole = table.replace_schema_metadata({**about, KEY: unfilled(name)})
    # Small files: dictionaries and statistics would cost more time and space than they save.
    pq.write_table(whole, buffer, use_dictionary=False, write_statistics=False)
    return filled(buffer.getvalue(), name)
