"""Files with something changed, read in this process: suites, recipes, labels, images and weights."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from fault_counts import PATIENCE_S, ROOT, SUITE, TOYS, Count
from PIL import Image

from harness.errors import UserError


def mutants(times: int, rng: random.Random) -> Iterator[Count]:
    """Suites, recipes, csv labels, images and weights with something changed: read, or refused in one message."""
    from harness.datasets.csv_file import CSV
    from harness.datasets.images import read_image
    from harness.plugins.registry import Registry
    from harness.plugins.weights.locate import WeightFile, check
    from harness.suite.resolve import load_suite
    from harness.training.recipe_file import read_recipe
    from harness.training.settings import settings_of

    registry = Registry(TOYS)
    texts = [path.read_bytes() for path in sorted((ROOT / "suites").glob("*.yaml"))] + [SUITE.encode()]
    recipes = [path.read_bytes() for path in sorted((ROOT / "suites" / "train").rglob("*.yaml"))][:20]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        table, images = _own_table(folder)

        def suite(content: bytes) -> None:
            (folder / "suite.yaml").write_bytes(content)
            load_suite(folder / "suite.yaml", registry)

        def recipe(content: bytes) -> None:
            (folder / "recipe.yaml").write_bytes(content)
            settings_of(read_recipe(folder / "recipe.yaml"), registry)

        def labels(content: bytes) -> None:
            (folder / "mine.csv").write_bytes(content)
            data = CSV(file=str(folder / "mine.csv"))
            for split in data.splits:
                data.entries(split)

        def image(content: bytes) -> None:
            (folder / "image").write_bytes(content)
            read = read_image(folder / "image")
            if not (read.ndim == 3 and bool((read >= 0).all()) and bool((read <= 1).all())):
                raise AssertionError(f"an image of {tuple(read.shape)}, {read.min()} to {read.max()}")

        module = registry.metric("birqa-tiny").build({})
        shipped = (ROOT / "metrics_zoo" / "weights" / "birqa-tiny.safetensors").read_bytes()

        def weights(content: bytes) -> None:
            path = folder / "own.safetensors"
            path.write_bytes(content)
            check(module, WeightFile("birqa-tiny", path, hashlib.sha256(content).hexdigest()))

        yield _mutated("suite with something changed", suite, texts, _changed_text, times, rng)
        yield _mutated("recipe with something changed", recipe, recipes, _changed_text, times, rng)
        yield _mutated("csv of labels with something changed", labels, [table], _changed_text, times, rng)
        yield _mutated("image file with something changed", image, images, _changed_bytes, times, rng)
        yield _mutated("weight file with something changed", weights, [shipped], _changed_header, times, rng)


def _own_table(folder: Path) -> tuple[bytes, list[bytes]]:
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture, files = Image.fromarray(values), []
    rows = ["ref,dist,opinion,group,level"]
    for number in range(3):
        for kind in ("ref", "dist"):
            picture.save(folder / f"{kind}{number}.png")
        rows.append(f"ref{number}.png,dist{number}.png,{number + 1}.5,blur,{number + 1}")
    forms = [
        ("PNG", {}),
        ("JPEG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("PPM", {}),
    ]
    for form, options in forms:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        files.append(buffer.getvalue())
    return "\n".join(rows).encode() + b"\n", files


def _mutated(
    fault: str,
    read: Callable[[bytes], None],
    originals: Sequence[bytes],
    change: Callable[[bytes, random.Random], bytes],
    times: int,
    rng: random.Random,
) -> Count:
    count = Count(fault)
    for _ in range(times):
        content = change(rng.choice(originals), rng)
        began = time.monotonic()
        try:
            read(content)
        except UserError as error:
            if not str(error).strip():
                count.wrong += 1
                count.notes.append("a message without words")
        except Exception as error:
            count.tracebacks += 1
            count.notes.append(f"{error!r:.200} of {content[:400]!r}")
        if time.monotonic() - began > PATIENCE_S / 3:
            count.hangs += 1
        count.tried += 1
    return count


_ODD = (
    *(b"", b"~", b"null", b"[]", b"{}", b"-1", b"0", b"1e400", b".nan", b"8/0", b"true", b'"', b"'", b"&a", b"*a"),
    *(b"!!python/object:os.system", b"18446744073709551616", b"\x00", b"\xff\xfe", "\u202e".encode(), b"$x_{$"),
    *(b"[/b]", b"a" * 300, b": ", b"- ", b"#", b"\t", b"\r\n", b"|", b">"),
)  # fmt: skip


def _changed_text(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        lines = content.split(b"\n")
        at = rng.randrange(len(lines))
        way = rng.randrange(7)
        if way == 0:
            del lines[at]
        elif way == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif way == 2:
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice(_ODD) + lines[at][place:]
        elif way == 3:
            key, colon, _ = lines[at].partition(b":")
            lines[at] = key + colon + b" " + rng.choice(_ODD)
        elif way == 4:
            lines[at] = b" " * rng.randint(1, 5) + lines[at]
        elif way == 5 and lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + bytes([rng.randrange(256)]) + lines[at][place + 1 :]
        else:
            lines = lines[: at + 1]
        content = b"\n".join(lines) or b"\n"
    return content


def _changed_bytes(content: bytes, rng: random.Random) -> bytes:
    altered = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not altered:
            break
        at, way = min(rng.randrange(len(altered)), rng.randrange(len(altered))), rng.randrange(4)
        if way == 0:
            altered[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            altered[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00"))
        elif way == 2:
            del altered[at:]
        else:
            altered[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(altered)


def _changed_header(content: bytes, rng: random.Random) -> bytes:
    """Mostly the header of a safetensors file, where what is read is decided."""
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.2:
        return _changed_bytes(content, rng)
    header = json.loads(content[8 : 8 + size])
    name = rng.choice([key for key in header if key != "__metadata__"])
    way = rng.randrange(8)
    if way == 0:
        header[name]["dtype"] = rng.choice(("F4", "F8_E8M0", "F6_E2M3", "BF16", "I8", "", None, 3))
    elif way == 1:
        header[name]["shape"] = rng.choice(([], [-1], [2**62, 2**62], "x", None, [0], header[name]["shape"][::-1]))
    elif way == 2:
        header[name]["data_offsets"] = rng.choice(([0, 0], [-1, 4], [4, 0], [0, 2**60], "x", None, [0]))
    elif way == 3:
        header["__metadata__"] = rng.choice(([], {"a": 1}, None, "x", {"a": {}}))
    elif way == 4:
        del header[name]
    elif way == 5:
        header[rng.choice(("", "a.b", "\u202e", "x" * 300))] = header.pop(name)
    elif way == 6:
        header[name] = rng.choice((None, [], 3, {}))
    text = json.dumps(header).encode()
    if way == 7:
        text = _changed_bytes(text, rng)
    length = len(text) if rng.random() < 0.9 else rng.choice((0, 2**63, len(content) * 2, 1))
    return length.to_bytes(8, "little") + text + content[8 + size :]
