import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import files
from harness.contracts import DataError
from harness.datasets.images import image_size, read_image
from harness.errors import UserError

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def test_rgb_is_channels_first_in_the_unit_interval(tmp_path: Path) -> None:
    image = read_image(saved(Image.fromarray(PIXELS), tmp_path / "a.png"))
    assert image.shape == (3, 5, 4) and image.dtype == torch.float32
    np.testing.assert_array_equal(np.rint(image.numpy() * 255), PIXELS.transpose(2, 0, 1))


def test_grey_palette_and_opaque_alpha_read_as_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(PIXELS)
    grey = read_image(saved(rgb.convert("L"), tmp_path / "grey.png"))
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[1], grey[2])
    for name, mode in (("palette.png", "P"), ("alpha.png", "RGBA")):
        converted = rgb.convert(mode)
        expected = np.asarray(converted.convert("RGB")).transpose(2, 0, 1)
        image = read_image(saved(converted, tmp_path / name))
        np.testing.assert_array_equal(np.rint(image.numpy() * 255), expected)


def test_transparent_and_deep_images_are_refused(tmp_path: Path) -> None:
    clear = Image.fromarray(PIXELS).convert("RGBA")
    clear.putalpha(128)
    with pytest.raises(DataError, match=r"clear\.png is partly transparent.*Flatten"):
        read_image(saved(clear, tmp_path / "clear.png"))
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    with pytest.raises(DataError, match=r"deep\.png.*I;16.*Convert"):
        read_image(saved(deep, tmp_path / "deep.png"))
    # Pillow opens 16-bit colour as RGB, without a word of what it drops.
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(2 * 13)),
        b"IEND": b"",
    }
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts.items()]
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert Image.open(tmp_path / "colour.png").mode == "RGB"
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"colour\.png has the pixel format RGB;16B"):
            read(tmp_path / "colour.png")


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg"])
def test_truncated_image_is_one_message_with_file_and_cure(tmp_path: Path, ending: str) -> None:
    whole = saved(Image.fromarray(np.tile(PIXELS, (20, 20, 1))), tmp_path / f"whole.{ending}").read_bytes()
    for share in (0, 0.3, 0.9):
        path = tmp_path / f"cut.{ending}"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=rf"cut\.{ending} cannot be read.*truncated.*again") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_text_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"page\.png cannot be read"):
        read_image(tmp_path / "page.png")
    with pytest.raises(DataError, match=r"none\.png is missing"):
        read_image(tmp_path / "none.png")


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ROBUSTIQA_CACHE_DIR", "XDG_CACHE_HOME", "ROBUSTIQA_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert files.cache_dir() == tmp_path / ".cache/robustiqa" and files.data_dir() == tmp_path / "data"
    assert files.shown(tmp_path / "data/x.png") == "~/data/x.png" and files.shown("/else/x.png") == "/else/x.png"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_dir() == Path("/xdg/robustiqa")
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", "~/kept")
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", "~nobody9/sets")
    with pytest.raises(UserError, match=r"ROBUSTIQA_DATA_DIR: ~nobody9/sets begins with ~nobody9, and no such user"):
        files.data_dir()
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", "~/sets")
    assert files.cache_dir() == tmp_path / "kept" and files.data_dir() == tmp_path / "sets"
