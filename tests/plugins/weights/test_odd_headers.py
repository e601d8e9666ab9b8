"""Safetensors files with a header that is wrong in any way: tensors by name, or one message, and never anything else.

What a header may be is of the format's own text: 8 bytes of length, JSON by name, types, shapes and offsets.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from harness.plugins.weights.manifest import WeightsError
from harness.plugins.weights.state_dicts import read_tensors

GOOD = save({"a": torch.zeros(2, 3), "b": torch.ones(4)})
LENGTH = int.from_bytes(GOOD[:8], "little")
HEAD, NUMBERS = json.loads(GOOD[8 : 8 + LENGTH]), GOOD[8 + LENGTH :]
TYPES = ("F4", "F6_E2M3", "F8_E8M0", "F8_E4M3", "BOOL", "U8", "U16", "C64", "F64", "BF16", "X", "", None, 3)
OFFSETS = ([0, 2**63], [5, 1], [-1, 4], [0, 2**64], [1.5, 3], ["0", 4], [24, 41], [0, 0], [0], [], None, "0")
SHAPES = ([2**62, 4], [0, 2**63], [0, 2**62], [-1], [1.5], "x", None, [], [[1]], [0], 6, [3, 2, 1, 1])
HEADS = ([], 3, "x", None, {}, {"a": 3}, {"__metadata__": 3}, {"__metadata__": {"a": 3}}, {"a": {}})
LENGTHS = (0, 1, 2**63, 2**64 - 1, 10**8, LENGTH - 1, LENGTH + 1)


def packed(head, length=None):
    text = json.dumps(head).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + NUMBERS


def wrong(rng):
    """A file of two small tensors, with one thing about it changed."""
    head = json.loads(json.dumps(HEAD))
    entry = head["ab"[rng.integers(2)]]
    kind = rng.integers(8)
    if kind == 0:
        entry["dtype"] = TYPES[rng.integers(len(TYPES))]
        entry["shape"] = [[24], [48], [32], [16], [6], [3]][rng.integers(6)]
    elif kind == 1:
        entry["data_offsets"] = OFFSETS[rng.integers(len(OFFSETS))]
    elif kind == 2:
        entry["shape"] = SHAPES[rng.integers(len(SHAPES))]
    elif kind == 3:
        return packed(HEADS[rng.integers(len(HEADS))])
    elif kind == 4:
        return GOOD[: rng.integers(len(GOOD))]
    elif kind == 5:
        return packed(head, LENGTHS[rng.integers(len(LENGTHS))])
    elif kind == 6:
        content = bytearray(GOOD)
        content[rng.integers(8 + LENGTH)] ^= 1 << int(rng.integers(8))
        return bytes(content)
    else:
        head["c"] = {"dtype": "F32", "shape": [0, 2 ** int(rng.integers(30, 64))], "data_offsets": [40, 40]}
    return packed(head)


def test_a_thousand_odd_headers():
    rng = np.random.default_rng(0)
    read = 0
    for content in (wrong(rng) for _ in range(1000)):
        try:
            tensors = read_tensors(content, Path("odd.safetensors"))
        except WeightsError as error:
            assert str(error).startswith("weight file odd.safetensors: ") and len(str(error).splitlines()) == 1
            assert str(error).endswith(("again.", "to F32."))
        else:
            read += 1
            assert all(isinstance(name, str) and isinstance(one, torch.Tensor) for name, one in tensors.items())
    assert 20 < read < 400, "some of what was changed means something, most does not"


@pytest.mark.parametrize("kind", ["F4", "F8_E8M0"])
def test_a_type_that_torch_has_no_tensors_for_is_named(kind):
    head = {**HEAD, "c": {"dtype": kind, "shape": [8], "data_offsets": [40, 40 + {"F4": 4, "F8_E8M0": 8}[kind]]}}
    content = packed(head) + bytes(8 if kind == "F8_E8M0" else 4)
    with pytest.raises(WeightsError, match=rf"holds numbers of the type {kind}, which cannot be read\. Convert"):
        read_tensors(content, Path("odd.safetensors"))
