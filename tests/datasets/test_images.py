import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.ImageOps import exif_transpose

from harness import files
from harness.contracts import DataError
from harness.datasets.image_files import CONVERSIONS, TURNED
from harness.datasets.images import image_head, read_image, read_pixels
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


def test_transparent_images_are_refused(tmp_path: Path) -> None:
    clear = Image.fromarray(PIXELS).convert("RGBA")
    clear.putalpha(128)
    for name in ("clear.png", "clear.webp", "clear.tif"):
        for read in (read_image, image_head):
            with pytest.raises(DataError, match=rf"{name} is partly transparent.*Flatten"):
                read(saved(clear, tmp_path / name))


# ------------------------------------------------------------------------------------------------ depth

DEEP = np.random.default_rng(0).integers(0, 65536, (13, 11, 4), dtype=np.uint16)
KINDS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Colour type of a PNG file -> its channels."""
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""Of Adam7, by the PNG specification: first row and column, steps down and right."""


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(pixels: np.ndarray, kind: int, interlaced: bool = False, more: bytes = b"") -> bytes:
    """A PNG file of 16 bits a channel, its rows filtered in turn by each of the five filters of the specification."""
    parts = [pixels[top::down, left::right] for top, left, down, right in PASSES] if interlaced else [pixels]
    packed = b"".join(filtered(part) for part in parts if part.size)
    height, width = pixels.shape[:2]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


def filtered(pixels: np.ndarray) -> bytes:
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(len(pixels), -1).astype(int)
    step, lines = 2 * pixels.shape[2], b""
    for number, row in enumerate(rows):
        up = rows[number - 1] if number else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros(step, dtype=int), line[:-step]]) for line in (row, up))
        near = np.stack([abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)])
        paeth = np.choose(near.argmin(0), [left, up, corner])
        foretold = (0 * row, left, up, (left + up) // 2, paeth)[number % 5]
        lines += bytes([number % 5]) + ((row - foretold) % 256).astype(np.uint8).tobytes()
    return lines


def values(path: Path) -> np.ndarray:
    """What is read, in steps of 1/65535, H x W x 3."""
    read = read_image(path)
    assert read.dtype == torch.float32
    return np.rint(read.double().numpy() * 65535).astype(int).transpose(1, 2, 0)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_png_of_16_bits_is_read_to_the_last(tmp_path: Path, kind: int, interlaced: bool) -> None:
    pixels, alpha = DEEP[..., : KINDS[kind]].copy(), kind in (4, 6)
    pixels[..., -1] = np.where(alpha, 65535, pixels[..., -1])
    path = tmp_path / "deep.png"
    path.write_bytes(png(pixels, kind, interlaced))
    np.testing.assert_array_equal(values(path), pixels[..., :3] if kind in (2, 6) else pixels[..., :1].repeat(3, 2))
    head = image_head(path)
    wanted = {0: (0, 4), 2: (0,), 4: (0, 2, 4), 6: (0, 2)}[kind]
    assert head.size == (11, 13) and head.converted == tuple(CONVERSIONS[place] for place in wanted)
    with pytest.raises(DataError, match=r"deep\.png has 16 bits a channel"):
        read_pixels(path)
    if alpha:
        pixels[3, 5, -1] = 65534  # opaque, were it cut to 8 bits
        path.write_bytes(png(pixels, kind, interlaced))
        with pytest.raises(DataError, match="partly transparent"):
            image_head(path)


@pytest.mark.parametrize("kind", [0, 2])
def test_a_transparent_colour_of_16_bits_is_found_at_16_bits(tmp_path: Path, kind: int) -> None:
    path, pixels = tmp_path / "key.png", DEEP[..., : KINDS[kind]]
    path.write_bytes(png(pixels, kind, more=chunk(b"tRNS", pixels[2, 2].astype(">u2").tobytes())))
    with pytest.raises(DataError, match="partly transparent"):
        read_image(path)
    near = next(value for value in (pixels[2, 2] ^ low for low in range(1, 256)) if not (pixels == value).all(2).any())
    path.write_bytes(png(pixels, kind, more=chunk(b"tRNS", near.astype(">u2").tobytes())))
    np.testing.assert_array_equal(values(path), np.broadcast_to(pixels, (13, 11, 3)))


TIFFS = {
    "big endian": {"byteorder": ">"},
    "deflated": {"compression": "zlib"},
    "in tiles": {"tile": (16, 16)},
    "in strips": {"rowsperstrip": 4},
}


@pytest.mark.parametrize("how", TIFFS)
def test_tiff_of_16_bits_is_read_as_tifffile_wrote_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "deep.tif"
    for pixels, told in ((DEEP[..., :3], "rgb"), (DEEP[..., :1], "minisblack")):
        tifffile.imwrite(path, pixels.squeeze(), photometric=told, **TIFFS[how])
        np.testing.assert_array_equal(values(path), np.broadcast_to(pixels, (13, 11, 3)))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            {"data": DEEP[..., :3].transpose(2, 0, 1), "photometric": "rgb", "planarconfig": "separate"},
            "plane by plane",
        ),
        ({"data": DEEP[..., 0], "photometric": "miniswhite"}, "stored unusually"),
        ({"data": DEEP[..., 0].astype(np.int16), "photometric": "minisblack"}, "I;16S"),
        ({"data": DEEP[..., 0].astype(np.float32), "photometric": "minisblack"}, "F;32F"),
        ({"data": DEEP, "photometric": "separated"}, "CMYK;16L"),
    ],
)
def test_tiff_that_pillow_would_read_otherwise_is_refused(tmp_path: Path, written: dict, told: str) -> None:
    tifffile.imwrite(tmp_path / "odd.tif", **written)
    for read in (read_image, image_head):
        with pytest.raises(
            DataError, match=rf"odd\.tif has the pixel format .*{told}.* Convert it to RGB or grey of 8"
        ):
            read(tmp_path / "odd.tif")


@pytest.mark.parametrize(("magic", "white"), [(6, 65535), (5, 65535), (6, 1023), (5, 100)])
def test_netpbm_is_read_in_full_or_refused(tmp_path: Path, magic: int, white: int) -> None:
    path, pixels = tmp_path / "a.ppm", DEEP[..., : 3 if magic == 6 else 1]
    path.write_bytes(f"P{magic}\n11 13\n{white}\n".encode() + pixels.astype(">u2").tobytes())
    if white == 65535:
        np.testing.assert_array_equal(values(path), np.broadcast_to(pixels, (13, 11, 3)))
        return
    with pytest.raises(DataError, match=rf"has the pixel format .* of 0\.\.{white}, which has no exact RGB form"):
        read_image(path)


def test_formats_of_which_pillow_would_lose_depth_or_start_programs_are_refused(tmp_path: Path) -> None:
    rgb = Image.fromarray(PIXELS)
    rgb.save(tmp_path / "flat.jp2", irreversible=False)
    np.testing.assert_array_equal(values(tmp_path / "flat.jp2"), PIXELS.astype(int) * 257)
    whole = bytearray((tmp_path / "flat.jp2").read_bytes())
    place = whole.index(b"\xff\x4f\xff\x51") + 42
    assert whole[place] == 7, "8 bits, unsigned"
    whole[place] = 11
    (tmp_path / "deep.jp2").write_bytes(whole)
    with pytest.raises(DataError, match="RGB of more or less than 8 bits in JPEG2000"):
        read_image(tmp_path / "deep.jp2")
    for ending in ("eps", "sgi"):
        rgb.save(tmp_path / "file.png", format=ending)
        with pytest.raises(DataError, match=r"file\.png cannot be read \(cannot identify"):
            read_image(tmp_path / "file.png")


# ------------------------------------------------------------------------------------------------ EXIF, colour


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "late.png", "deep.png", "deep.tif"])
def test_all_eight_orientations_are_those_of_pillow(tmp_path: Path, name: str) -> None:
    path, deep, image = tmp_path / name, PIXELS.astype(np.uint16) * 257, Image.fromarray(PIXELS)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        packed = chunk(b"eXIf", exif.tobytes()[6:])
        if name == "deep.png":
            path.write_bytes(png(deep, 2, more=packed))
        elif name == "deep.tif":
            tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, 3, 1, orientation, False)])
        elif name == "late.png":  # as programs write it that add EXIF to a finished file
            whole = saved(image, path).read_bytes()
            path.write_bytes(whole[:-12] + packed + whole[-12:])
        else:
            image.save(path, exif=exif, lossless=True)
        image.getexif()[274] = orientation
        turned = np.asarray(exif_transpose(image))
        np.testing.assert_array_equal(values(path), turned.astype(int) * 257)
        head = image_head(path)
        assert head.size == turned.shape[1::-1] and (TURNED in head.converted) == (orientation > 1)
        del image.getexif()[274]


def test_damaged_exif_says_nothing(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(values(tmp_path / "a.png"), PIXELS.astype(int) * 257)


def test_profiles_of_srgb_change_nothing_and_others_are_refused(tmp_path: Path) -> None:
    """The other one is sRGB with red and green exchanged in its table of tags."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=srgb)
    np.testing.assert_array_equal(values(tmp_path / "a.png"), PIXELS.astype(int) * 257)
    assert image_head(tmp_path / "a.png").converted == ()
    other = srgb.replace(b"rXYZ", b"?XYZ", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"?XYZ", b"gXYZ", 1)
    for profile, said in ((other, "'sRGB built-in'"), (b"no profile" * 20, r"\(unreadable\)")):
        for name in ("b.png", "b.jpg", "b.tif", "b.webp"):
            Image.fromarray(PIXELS).save(tmp_path / name, icc_profile=profile)
            with pytest.raises(DataError, match=rf"has the colour profile {said}, under which .* Convert it to sRGB"):
                image_head(tmp_path / name)


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
