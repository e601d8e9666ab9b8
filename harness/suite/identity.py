"""What makes two results the same: one pure function from plain values to a short hash.

Raise `PROTOCOL` when the engine changes what a cell, fact or fit means, so that old records are not mistaken for new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PROTOCOL = 2


def identity(kind: str, parts: Mapping[str, Any]) -> str:
    """16 hex digits of a cell, fact or fit.

    Key order does not matter; every value must be plain (text, numbers, lists, mappings). Floats enter by their
    shortest exact form, tuples as lists, sets sorted.
    """
    text = json.dumps(
        {"kind": kind, "protocol": PROTOCOL, **parts},
        sort_keys=True,
        separators=(",", ":"),
        default=_plain,
        allow_nan=False,
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def order_key(sample: str) -> bytes:
    """Where a sample stands in its split: by hash, so that any prefix is a fair and nested selection."""
    return hashlib.blake2b(sample.encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be part of an identity")
