"""Published weights: files in the layout of their authors, fetched, verified and joined into a metric's state dict."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.api import score
from harness.cli import main
from harness.contracts import Metric
from harness.plugins.registry import Registry
from harness.plugins.weights import fetch
from harness.plugins.weights import locate as weights
from harness.plugins.weights.locate import WeightsError, load, read_manifest, resolve
from harness.plugins.weights.manifest import identity_of
from metrics_zoo.backbones import IMAGENET_MEAN, IMAGENET_STD

PAGE = b"<!DOCTYPE html><html>Please sign in.</html>"


class Joined(Metric):
    """A linear layer, published as two files."""

    higher_is_better = True
    needs_weights = True

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    @classmethod
    def published_state(cls, parts):
        return {"layer.weight": parts["trunk"]["w"], "layer.bias": parts["heads"]["b"]}


TRUNK, HEADS = {"w": torch.arange(6.0).reshape(2, 3)}, {"b": torch.tensor([7.0, 8.0])}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def saved(path, value):
    torch.save(value, path)
    return path.read_bytes()


def tree(folder):
    """Names of the files of a folder, locks left out."""
    return {path.name for path in folder.glob("*")} - {path.name for path in folder.glob(".*.lock")}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTIQA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBUSTIQA_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def published(tmp_path, cache, monkeypatch):
    """Makes `joined`, of trunk.pth and heads.pth, the zoo's one entry; gives both files as bytes."""
    source = tmp_path / "source"
    (tmp_path / "zoo").mkdir()
    source.mkdir()
    monkeypatch.setattr(weights, "zoo", lambda: tmp_path / "zoo")
    files = {"trunk": saved(source / "trunk.pth", TRUNK), "heads": saved(source / "heads.pth", HEADS)}

    def write(url="https://weights.invalid", **changes):
        parts = {
            name: {"file": f"{name}.pth", "also": [f"{name}.safetensors"], "url": f"{url}/{name}.pth"}
            | {"sha256": sha256(content), "size": len(content), "licence": "MIT", "source": "a page"}
            for name, content in files.items()
        }
        for name, keys in changes.items():
            parts[name] = {key: value for key, value in (parts[name] | keys).items() if value is not None}
        entry = {"metric": "joined", "licence": "MIT", "parts": parts}
        (tmp_path / "zoo" / "manifest.json").write_text(json.dumps({"joined": entry}))
        return files

    write()
    return write


@pytest.fixture
def server(published):
    """A server of what `answers` holds: path -> (status, bytes, claimed length); and the paths that were asked for."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, content, length = answers.get(self.path, (404, b"none", None))
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        files = published(url=f"http://127.0.0.1:{http.server_port}")
        answers.update({f"/{name}.pth": (200, content, None) for name, content in files.items()})
        yield answers, asked
        http.shutdown()
        thread.join()


@pytest.fixture
def robustiqa(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return ended.value.code, printed.out, printed.err

    return call


# ------------------------------------------------------------------------------------------------ the manifest


def test_every_published_entry_says_where_from_how_large_and_under_which_licence():
    found = [entry for entry in weights.entries() if entry.published]
    assert {"lpips-alex", "lpips-vgg", "lpips-squeeze", "dists", "topiq"} <= {entry.name for entry in found}
    for entry in found:
        assert entry.licence and entry.raw["paper"]
        for part in entry.parts:
            assert part.url.startswith("https://") and part.source.startswith("https://") and part.licence
            assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", part.sha256)
            assert part.size or part.size_about
            assert part.size or len(part.sha256) == 8, "a size is missing only where nobody published it"
            named = re.search(r"-([0-9a-f]{8})\.pth$", part.file)  # torch.hub's names carry the first digits
            assert named is None or part.sha256.startswith(named[1])


def test_the_input_that_the_manifest_states_is_that_of_the_metric():
    registry = Registry()
    for entry in (entry for entry in weights.entries() if entry.published):
        plugin = registry.metric(entry.metric)
        assert plugin.weights == entry.name
        stated = entry.raw["input"]
        assert stated["minimum_size"] == plugin.cls.minimum_size and stated["range"] == [0, 1]
        assert (tuple(stated["mean"]), tuple(stated["std"])) == (IMAGENET_MEAN, IMAGENET_STD)


# ------------------------------------------------------------------------------------------------ loading


def test_parts_in_the_cache_become_the_metric_and_have_one_identity(published, cache):
    hashes = {}
    for name, content in published().items():
        (cache / f"{name}.pth").write_bytes(content)
        hashes[name] = sha256(content)
    found = resolve("joined", None, "joined")
    assert found.sha256 == sha256(f"heads {hashes['heads']}\ntrunk {hashes['trunk']}".encode())
    metric = Joined()
    load(metric, found)
    assert torch.equal(metric.layer.weight, TRUNK["w"]) and torch.equal(metric.layer.bias, HEADS["b"])
    assert resolve("joined", str(found.path), None).sha256 == found.sha256, "as a saved suite names them"
    assert identity_of({"": "ab"}) == "ab", "one file stands for itself"


def test_own_copies_in_a_folder_count_by_content_and_not_in_the_cache(published, cache, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for target in (folder, cache):
        save_file(TRUNK, target / "trunk.safetensors")
        (target / "heads.pth").write_bytes(published()["heads"])
    metric = Joined()
    load(metric, resolve("joined", str(folder), "joined"))
    assert torch.equal(metric.layer.weight, TRUNK["w"])
    with pytest.raises(WeightsError, match=r"not on this machine: trunk\.pth \(\d+ kB\)\. Fetch them with"):
        resolve("joined", "joined", None)
    save_file({"w": TRUNK["w"][:, :2].contiguous()}, folder / "trunk.safetensors")
    with pytest.raises(WeightsError, match=r"weights joined in .*own does not fit Joined: layer\.weight has shape"):
        load(metric, resolve("joined", str(folder), "joined"))


def test_no_byte_is_unpickled_before_its_hash_is_right(published, cache, monkeypatch):
    for name, content in published().items():
        (cache / f"{name}.pth").write_bytes(content)
    found = resolve("joined", "joined", None)
    (cache / "trunk.pth").write_bytes(published()["trunk"][:-1] + b"x")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    for attempt in (lambda: load(Joined(), found), lambda: resolve("joined", "joined", None)):
        with pytest.raises(WeightsError, match=r"trunk\.pth: sha256 is .* expected .*robustiqa weights fetch joined"):
            attempt()


def test_code_in_a_pickle_does_not_run_even_if_the_manifest_names_it(published, cache, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    content = pickle.dumps({"w": Evil()}, protocol=2)
    published(trunk={"sha256": sha256(content), "size": len(content)})
    (cache / "trunk.pth").write_bytes(content)
    (cache / "heads.pth").write_bytes((tmp_path / "source" / "heads.pth").read_bytes())
    with pytest.raises(WeightsError, match=r"trunk\.pth: torch cannot read it as weights alone"):
        load(Joined(), resolve("joined", "joined", None))
    assert not (tmp_path / "ran").exists()


def test_tensors_below_a_key_are_found_and_other_things_refused(published, cache, tmp_path):
    for value, said in (({"params": TRUNK, "epoch": 3}, ""), ({"params": 3}, "holds no tensors by name")):
        content = saved(cache / "trunk.pth", value)
        files = published(trunk={"sha256": sha256(content), "size": len(content), "key": "params"})
        (cache / "heads.pth").write_bytes(files["heads"])
        metric = Joined()
        if said:
            with pytest.raises(WeightsError, match=said):
                load(metric, resolve("joined", None, "joined"))
        else:
            load(metric, resolve("joined", None, "joined"))
            assert torch.equal(metric.layer.weight, TRUNK["w"])


def test_by_default_the_only_file_is_the_state_dict_as_it_is():
    assert Metric.published_state({"checkpoint": TRUNK}) == TRUNK
    with pytest.raises(TypeError):
        Metric.published_state({"trunk": TRUNK, "heads": HEADS})


def test_lpips_of_published_files_gives_the_published_distances(test_data, robustiqa):
    folder, images = test_data / "lpips", test_data / "lpips" / "examples"
    for name, expected in (("ex_p0.png", 0.7219), ("ex_p1.png", 0.1376)):
        given = ("--metric", "lpips-alex", "--set", f"weights={folder}", "--json")
        code, out, _ = robustiqa("score", images / "ex_ref.png", images / name, *given)
        (row,) = json.loads(out)["scores"]
        assert code == 0 and row["score"] == pytest.approx(expected, abs=1e-4)
        files = {"trunk": "alexnet_features", "heads": "lpips_alex_v0.1_heads"}
        hashes = {part: sha256((folder / f"{file}.safetensors").read_bytes()) for part, file in files.items()}
        assert row["weights"] == identity_of(hashes)
    named = score("lpips-squeeze", images / "ex_ref.png", images / "ex_p1.png", weights=folder / "lpips-squeeze")
    assert named == score("lpips-squeeze", images / "ex_ref.png", images / "ex_p1.png", weights=folder)


# ------------------------------------------------------------------------------------------------ fetch


def test_fetch_verifies_keeps_and_does_not_fetch_twice(server, cache, robustiqa):
    _, asked = server
    code, out, _ = robustiqa("weights", "fetch", "joined")
    assert code == 0 and out.count("(fetched)") == 2 and "licence MIT" in out
    assert tree(cache) == {"trunk.pth", "heads.pth"}
    metric = Joined()
    load(metric, resolve("joined", None, "joined"))
    assert torch.equal(metric.layer.bias, HEADS["b"])
    code, out, _ = robustiqa("weights", "fetch", "--all")
    assert code == 0 and out.count("(already there)") == 2 and asked == ["/trunk.pth", "/heads.pth"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"other bytes", None), r"heads\.pth is not the file of the manifest: 11 bytes came, expected \d+"),
        ((200, PAGE, None), r"a web page came in place of the file, as a proxy or a log-in would send it; "),
        ((404, PAGE, None), r"heads\.pth could not be downloaded \(HTTP 404 Not Found\)"),
        ((200, b"half", 4000), r"heads\.pth (could not be downloaded \(|is not the file of the manifest)"),
    ],
)
def test_what_is_not_the_file_is_not_kept_and_the_next_run_goes_on(server, cache, robustiqa, answer, said):
    answers, asked = server
    right = answers["/heads.pth"]
    answers["/heads.pth"] = answer
    code, _, err = robustiqa("weights", "fetch", "joined")
    assert code == 2 and re.search(said, err) and "put it into" in err and err.count("\n") == 1
    assert tree(cache) == {"trunk.pth"}
    answers["/heads.pth"] = right
    (cache / ".heads.pth.part").write_bytes(b"of a download that was killed")
    assert robustiqa("weights", "fetch", "joined")[0] == 0
    assert tree(cache) == {"trunk.pth", "heads.pth"} and asked.count("/trunk.pth") == 1


def test_bytes_of_the_right_number_and_wrong_hash_are_refused(server, cache, robustiqa):
    answers, _ = server
    content = answers["/trunk.pth"][1]
    answers["/trunk.pth"] = (200, content[:-1] + b"x", None)
    code, _, err = robustiqa("weights", "fetch", "joined")
    assert code == 2 and f"expected {sha256(content)}" in err and not tree(cache)


def test_no_network_is_one_message(published, cache, robustiqa):
    published(url="http://127.0.0.1:9")
    code, _, err = robustiqa("weights", "fetch", "joined")
    assert code == 2 and "could not be downloaded (Connection refused)" in err and not tree(cache)
    assert f"put it into {cache} as trunk.pth" in err


def test_offline_says_what_to_put_where(server, cache, robustiqa, monkeypatch):
    _, asked = server
    monkeypatch.setenv("ROBUSTIQA_OFFLINE", "1")
    code, _, err = robustiqa("weights", "fetch", "joined")
    assert code == 2 and "ROBUSTIQA_OFFLINE is set" in err and not asked
    assert "/trunk.pth as trunk.pth, http" in err and f"put that into {cache}" in err
    for name in ("trunk", "heads"):
        (cache / f"{name}.pth").write_bytes(server[0][f"/{name}.pth"][1])
    assert robustiqa("weights", "fetch", "joined")[0] == 0, "nothing to download"
    monkeypatch.setenv("ROBUSTIQA_OFFLINE", "0")
    assert not fetch.offline()


def test_a_damaged_file_is_fetched_again(server, cache, robustiqa):
    (cache / "trunk.pth").write_bytes(PAGE)
    assert robustiqa("weights", "fetch", "joined")[0] == 0
    assert (cache / "trunk.pth").read_bytes() == server[0]["/trunk.pth"][1]


def test_a_file_of_which_only_eight_digits_are_published_is_pinned_when_fetched(server, published, cache, robustiqa):
    answers, _ = server
    content = answers["/trunk.pth"][1]
    url = weights.entries()[0].parts[0].url.removesuffix("/trunk.pth")
    published(url=url, trunk={"sha256": None, "sha256_prefix": sha256(content)[:8], "size": None, "size_about": 1000})
    assert robustiqa("weights", "fetch", "joined")[0] == 0
    assert json.loads((cache / "fetched.json").read_text()) == {"trunk.pth": sha256(content)}
    (cache / "fetched.json").write_text(json.dumps({"trunk.pth": sha256(content)[:8] + "0" * 56}))
    with pytest.raises(WeightsError, match=r"and was .* when it was fetched"):
        resolve("joined", None, "joined")
    (cache / "trunk.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match=rf"expected {sha256(content)[:8]}\.\.\."):
        resolve("joined", None, "joined")


def test_fetch_wants_names_that_are_known(published, robustiqa):
    assert robustiqa("weights", "fetch")[2] == (
        "error: weights fetch: give names, or --all. See `robustiqa weights list`.\n"
    )
    code, _, err = robustiqa("weights", "fetch", "joind")
    assert code == 2 and "no weights are called 'joind'. Did you mean 'joined'?" in err


def test_the_progress_of_a_download_is_shown_to_its_end(server, cache, monkeypatch):
    told = []

    class Bar:
        total = 0

        def update(self, size):
            told.append(size)

        def reset(self):
            told.clear()

        def close(self):
            told.append(self.total)

    list(fetch.fetch(weights.entries()[0], lambda part: Bar()))
    size = len(server[0]["/heads.pth"][1])
    assert told == [size, size]


# ------------------------------------------------------------------------------------------------ list and verify


def test_list_says_where_weights_are(published, cache, robustiqa):
    assert "missing" in robustiqa("weights", "list")[1]
    for count, (name, content) in enumerate(published().items(), start=1):
        (cache / f"{name}.pth").write_bytes(content)
        where = "missing: 1 of 2 files" if count == 1 else "in the cache"
        assert where in robustiqa("weights", "list")[1]
    (row,) = json.loads(robustiqa("weights", "list", "--json")[1])
    assert [file["where"] for file in row["files"]] == ["in the cache"] * 2 and row["licence"] == "MIT"


def test_list_of_the_shipped_manifest(cache, robustiqa):
    rows = {row["name"]: row for row in json.loads(robustiqa("weights", "list", "--json")[1])}
    assert rows.keys() == read_manifest().keys()
    assert rows["birqa-tiny"]["files"][0]["where"] == "with robustiqa"
    assert {file["where"] for file in rows["lpips-vgg"]["files"]} == {"missing"}


def test_verify_reads_everything_and_fails_on_what_was_changed(published, cache, robustiqa):
    code, out, _ = robustiqa("weights", "verify")
    assert code == 0 and out.count("missing ") == 2
    code, _, err = robustiqa("weights", "verify", "joined")
    assert code == 1 and err.count("is missing. Run `robustiqa weights fetch joined`") == 2
    for name, content in published().items():
        (cache / f"{name}.pth").write_bytes(content)
    assert robustiqa("weights", "verify", "joined")[0] == 0
    (cache / "heads.pth").write_bytes(PAGE)
    code, out, err = robustiqa("weights", "verify")
    assert code == 1 and "it is a web page" in out
    assert err.startswith(f"failed: {cache / 'heads.pth'} is not the file of the manifest.")
    rows = json.loads(robustiqa("weights", "verify", "--json")[1])
    assert [row["verdict"] for row in rows] == ["ok", "changed"]


@pytest.mark.parametrize("arguments", [["list"], ["fetch", "--help"], ["verify"]])
def test_weights_commands_do_not_import_torch(arguments, cache):
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try: main(['weights', *{arguments!r}])\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_page_on_weights_names_every_entry_file_and_licence():
    page = (Path(__file__).parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
    for entry in weights.entries():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{entry.name}` |")]
        for part in entry.parts:
            assert f"`{part.file}`" in row
            assert ("whole" in row) == (len(part.sha256) == 64)
            assert all(word.removesuffix("-1.0.0").split("-")[0] in row for word in part.licence.split(" and "))
