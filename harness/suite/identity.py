"""What makes two results the same: one pure function from plain values to a short hash.

Raise `PROTOCOL` when the engine changes what a cell, fact or fit means, so that old records are not mistaken for new.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

PROTOCOL = 2


@dataclass(frozen=True, slots=True)
class Written:
    """A part of identities that is written once and stands in many: a plan has 100,000 cells of a few hundred parts."""

    text: str


def as_written(part: Any) -> Written:
    """A part, which must be plain, as it stands in the text that is hashed."""
    return Written(_ENCODER.encode(part))


def identity(kind: str, parts: Mapping[str, Any]) -> str:
    """16 hex digits of a cell, fact or fit.

    Key order does not matter; every value must be plain (text, numbers, lists, mappings). Floats enter by their
    shortest exact form, tuples as lists, sets sorted. What is `as_written` already is taken as it is.
    """
    whole = {"kind": kind, "protocol": PROTOCOL, **parts}
    text = ",".join(f'"{key}":{_text(whole[key])}' for key in sorted(whole))
    return hashlib.blake2b(f"{{{text}}}".encode(), digest_size=8).hexdigest()


def order_key(sample: str) -> bytes:
    """Where a sample stands in its split: by hash, so that any prefix is a fair and nested selection."""
    return hashlib.blake2b(sample.encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be part of an identity")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)


def _text(part: Any) -> str:
    """What the encoder makes of a part; the kinds that most parts are of go by a shorter way."""
    kind = type(part)
    if kind is Written:
        return str(part.text)
    if kind is str:
        return encode_basestring_ascii(part)
    return repr(part) if kind is int or (kind is float and math.isfinite(part)) else _ENCODER.encode(part)
