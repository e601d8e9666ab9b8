"""`robustiqa data`: what there is, fetching archives from a server that breaks off, and what verifying finds."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.contracts import DataError
from harness.datasets.catalogue import CATALOGUE, Archive
from harness.datasets.fetch import fetch_archive
from harness.plugins.registry import Registry


@pytest.fixture
def command(capsys):
    """Words -> exit code, stdout, stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(["data", *map(str, words)])
        return ended.value.code or 0, *capsys.readouterr()

    return call


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `breaks_at` cuts the first answer short, `ranges` says whether it goes on from a byte."""

    content, breaks_at, ranges = b"", None, True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/archive"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_at])
        server.breaks_at = None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("ROBUSTIQA_OFFLINE", raising=False)
    return tmp_path / "data"


def tar(*names, content=b"abc"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name in names:
            packed.writestr(name, "abc")
    return file.getvalue()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_list_names_every_set_with_the_sizes_of_table_1(command, home):
    (home / "tid2013").mkdir(parents=True)
    code, out, _ = command("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and set(rows) == set(Registry().names("datasets")) >= set(CATALOGUE)
    published = {"live": "779", "csiq": "866", "tid2013": "3,000", "kadid10k": "10,125", "pipal": "23,200"}
    assert {name: rows[name]["images"] for name in published} == published
    found = {name: row["found"] for name, row in rows.items()}
    assert (found["mini"], found["tid2013"], found["live"], found["csv"]) == ("yes", "incomplete", "no", "own")
    assert "mos_with_names.txt is missing" in rows["tid2013"]["fault"]
    assert all(row["page"] and row["licence"] for name, row in rows.items() if name in CATALOGUE)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(command, home, server, ranges):
    noise = np.random.default_rng(0).bytes(1 << 20)
    server.content = tar("kadid10k/dmos.csv", "kadid10k/images/I01.png", content=noise)
    server.breaks_at, server.ranges = len(server.content) * 3 // 4, ranges
    words = ("fetch", "kadid10k", "--url", server.url, "--sha256", digest(server.content))
    code, _, err = command(*words)
    assert code == 2 and "could not be downloaded" in err and "to go on where it broke off" in err
    assert not (home / "kadid10k").exists()
    code, out, _ = command(*words)
    assert code == 0 and "robustiqa data verify kadid10k" in out
    assert (home / "kadid10k/images/I01.png").read_bytes() == noise
    begun = f"bytes={1 << 20}-"
    assert server.asked == [None, begun] if ranges else server.asked == [None, begun, None]
    assert [path.name for path in home.iterdir() if path.suffix not in (".lock",)] == ["kadid10k"]
    code, _, err = command(*words)
    assert code == 2 and "dmos.csv is there already. Move it away first" in err


def test_what_is_not_the_file_is_not_kept(command, home, server):
    server.content = b"<html>log in</html>"
    code, _, err = command("fetch", "live", "--url", server.url, "--sha256", "0" * 64)
    assert code == 2 and "is not the file expected" in err and "Nothing was kept" in err
    assert not list(home.glob("*live*.part")) and not (home / "live").exists()
    code, _, err = command("fetch", "live", "--url", server.url, "--sha256", digest(server.content))
    assert code == 2 and "neither zip nor tar" in err


def damaged(kind, place):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{kind}") as packed:
        info = tarfile.TarInfo("f")
        info.size = 200_000
        packed.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    content = bytearray(file.getvalue())
    content[place] ^= 255
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (damaged("gz", 100_000), "CRC"),
        (damaged("xz", 120_000), "orrupt"),
        (damaged("bz2", 150_000), ""),
        (damaged("xz", 120_000)[:100_000], "ended"),
        (zipped(), "nothing is in it"),
        (zipped("empty/"), "nothing is in it"),
        (zipped("x" * 300), "too long"),
        (zipped("a", "a/b"), ""),
        (b"not an archive", "neither zip nor tar"),
    ],
    ids=["gz", "xz", "bz2", "cut", "empty", "folder", "long name", "file and folder", "none"],
)
def test_nothing_stays_of_what_cannot_be_unpacked(home, server, content, said):
    server.content = content
    with pytest.raises(DataError, match=rf"Data set live: .*{said}.* Nothing was kept") as caught:
        fetch_archive("live", Archive("", server.url, digest(content)), "live")
    assert "rights" not in str(caught.value) and not [path for path in home.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    "content", [tar("a.txt", "../evil.txt"), zipped("a.txt", "x/../../evil.txt")], ids=["tar", "zip"]
)
def test_nothing_is_unpacked_outside_of_its_folder(home, server, content):
    server.content = content
    with pytest.raises(DataError, match=r"cannot be unpacked .*evil\.txt.* outside"):
        fetch_archive("live", Archive("", server.url, digest(content)), "live")
    assert not list(home.parent.rglob("evil.txt")) and not (home / "live").exists()


def test_parts_of_bapps_come_one_after_the_other(command, home, server, monkeypatch):
    contents = {part: tar(f"{part}/cnn/ref/000000.png") for part in ("val", "train")}
    server.content = contents["val"]
    archives = tuple(Archive(part, server.url, digest(content)) for part, content in contents.items())
    known = CATALOGUE["bapps"]
    assert [archive.part for archive in known.archives] == ["val", "train"]
    assert all(archive.url.endswith(f"twoafc_{archive.part}.tar.gz") for archive in known.archives)
    object.__setattr__(known, "archives", archives)
    monkeypatch.setattr("harness.datasets.catalogue.CATALOGUE", {**CATALOGUE, "bapps": known})
    assert command("fetch", "bapps", "--part", "val")[0] == 0
    server.content = contents["train"]
    code, out, _ = command("fetch", "bapps")
    assert code == 0 and "val is there already" in out and (home / "bapps/train/cnn/ref/000000.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("csiq",),
            "Visit http://vision.eng.shizuoka.ac.jp/mod/page/view.php?id=23, download it (licence: on its page)",
        ),
        (("nights",), "so that there lie data.csv, ref/000/000.png"),
        (("mini",), "comes with robustiqa"),
        (("kadid",), "no such set to fetch. Did you mean 'kadid10k'"),
        (("bapps", "--part", "test"), "no part 'test'. Choose from val, train"),
        (("live", "--part", "val"), "--part chooses among archives, and this set has none"),
        (("live", "--url", "http://a..b/", "--sha256", "0" * 64), "http://a..b/ could not be downloaded"),
        (("live", "--url", "http://x"), "--url and --sha256 go together"),
        (("live", "--url", "http://x", "--sha256", "abc"), "is no sha256"),
        (("live", "--url", "ftp:x", "--sha256", "0" * 64), "ftp:x could not be downloaded"),
    ],
)
def test_what_cannot_be_fetched_is_one_message(command, home, words, said):
    code, _, err = command("fetch", *words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not list(home.glob(".*.part"))


def test_offline_nothing_is_fetched(command, home, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_OFFLINE", "1")
    code, _, err = command("fetch", "bapps")
    assert code == 2 and "ROBUSTIQA_OFFLINE is set" in err


def test_verify_makes_some_images_of_an_embedded_set(command):
    code, out, err = command("verify", "mini_2afc", "--set", "split=test")
    lines = out.splitlines()
    assert code == 0 and not err and len(lines) == 2
    assert lines[0].startswith("mini_2afc test: no image files: 24 items, made when they are asked for; fingerprint ")
    assert lines[1] == "  24 of them made now: 128 x 128"


def test_verify_names_the_files_that_are_converted(command, tmp_path):
    pixels, exif = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8), Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels.transpose(1, 0, 2)[::-1].copy()).save(tmp_path / "a1.png", exif=exif)
    Image.fromarray(pixels[..., 0]).convert("LA").save(tmp_path / "a2.png")
    (tmp_path / "mine.csv").write_text("ref,dist\na.png,a1.png\na.png,a2.png\n")
    words = ("verify", "csv", "--set", f"file={tmp_path / 'mine.csv'}")
    code, out, _ = command(*words)
    assert code == 0 and "2 items: 16 x 12\n" in out and "1 item whose images are identical: a1.png" in out
    assert "  1 file turned as the EXIF orientation says: a1.png\n" in out
    assert "  1 file expanded from grey to RGB: a2.png\n" in out
    found = json.loads(command(*words, "--json")[1])[0]["converted"]
    assert {what: [Path(file).name for file in files] for what, files in found.items()} == {
        "turned as the EXIF orientation says": ["a1.png"],
        "read without its opaque alpha plane": ["a2.png"],
        "expanded from grey to RGB": ["a2.png"],
    }


def test_verify_finds_what_is_wrong_with_images(command, tmp_path):
    """Two references; one image is its reference, one a copy of another, one truncated, one of another size."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "a1", "a3"):
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "a2.png").write_bytes((tmp_path / "a1.png").read_bytes())
    Image.open(tmp_path / "b.png").save(tmp_path / "b1.bmp")
    rows = ["ref,dist", *(f"a.png,a{i}.png" for i in (1, 2, 3)), "b.png,b1.bmp"]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    words = ("verify", "csv", "--set", f"file={tmp_path / 'mine.csv'}")
    code, out, _ = command(*words)
    assert code == 0 and "4 items: 16 x 12" in out
    assert "1 item whose images are identical: b1.bmp" in out
    assert "1 group of files with the same content: a1.png = a2.png" in out
    whole = (tmp_path / "a3.png").read_bytes()
    (tmp_path / "a3.png").write_bytes(whole[: len(whole) // 2])
    code, out, err = command(*words, "--json")
    (row,) = json.loads(out)
    assert code == 1 and len(row["unreadable"]) == 1 and "mine.csv, line 4: Image" in row["unreadable"][0]
    assert "failed: " in err and "a3.png cannot be read" in err
    Image.new("RGB", (9, 9)).save(tmp_path / "a3.png")
    code, _, err = command(*words)
    assert code == 2 and "mine.csv, line 4: the images differ in size (a.png 16 x 12, a3.png 9 x 9)" in err
