"""Metrics of other libraries: their values, direction and range; what is said where a library is missing."""

import json
import math
import re
import socket
import sys
import types
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.contracts import Metric
from harness.datasets.mini import Mini
from harness.plugins.model import PluginError
from harness.plugins.registry import Registry
from harness.testing import check_metric
from harness.testing.common import identical, image_pairs
from metrics_zoo.bridges import piq as piq_bridge
from metrics_zoo.bridges import torchmetrics as torchmetrics_bridge
from metrics_zoo.bridges.functional import KnownMetric, metric_class

NAMES = [f"torchmetrics:{name}" for name in torchmetrics_bridge.KNOWN] + [f"piq:{name}" for name in piq_bridge.KNOWN]
SMOOTH = [name for name in NAMES if name not in ("torchmetrics:vif", "torchmetrics:sam")]
"""Those that have a gradient and a number for every pixel, black ones too."""


@pytest.fixture(scope="module")
def functional():
    return pytest.importorskip("torchmetrics.functional.image")


@pytest.fixture(scope="module")
def built(piq, functional):
    """Name -> the metric as the registry makes it."""
    registry = Registry()
    return {name: registry.metric(name).build({}) for name in NAMES}


def pairs(metric, count=3):
    least = metric.minimum_size
    return image_pairs(max(least, 40), max(least, 40) + 8, count)


@pytest.fixture(scope="module")
def direct(piq, functional):
    """Name -> the library's own call for one pair, as its documentation has it."""
    tm = {
        "ergas": lambda d, r: functional.error_relative_global_dimensionless_synthesis(d, r),
        "ms_ssim": lambda d, r: functional.multiscale_structural_similarity_index_measure(d, r, data_range=1.0),
        "psnr": lambda d, r: functional.peak_signal_noise_ratio(d, r, data_range=1.0),
        "rase": lambda d, r: functional.relative_average_spectral_error(d, r),
        "rmse_sw": lambda d, r: functional.root_mean_squared_error_using_sliding_window(d, r),
        "sam": lambda d, r: functional.spectral_angle_mapper(d, r),
        "scc": lambda d, r: functional.spatial_correlation_coefficient(d, r),
        "ssim": lambda d, r: functional.structural_similarity_index_measure(d, r, data_range=1.0),
        "uqi": lambda d, r: functional.universal_image_quality_index(d, r),
        "vif": lambda d, r: functional.visual_information_fidelity(255 * d, 255 * r),
    }
    calls = {f"torchmetrics:{name}": call for name, call in tm.items()}
    for name in piq_bridge.KNOWN:
        calls[f"piq:{name}"] = lambda d, r, name=name: getattr(piq, name)(d, r)
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_librarys_for_each_row_alone(name, built, direct):
    ref, dist = pairs(built[name])
    with torch.no_grad():
        scores = built[name](ref=ref, dist=dist)
        alone = [float(direct[name](dist[i : i + 1], ref[i : i + 1])) for i in range(len(ref))]
    assert scores.shape == (3,) and scores.tolist() == pytest.approx(alone, rel=1e-5, abs=1e-6)
    assert len(set(alone)) == 3, "three different images"


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_each_other(name, built):
    ref, dist = pairs(built[name])
    metric, order = built[name], torch.tensor([2, 0, 1])
    with torch.no_grad():
        scores = metric(ref=ref, dist=dist)
        assert identical(metric(ref=ref[order], dist=dist[order]), scores[order])
        beside = metric(ref=torch.cat((ref[:1], 1 - ref[1:])), dist=torch.cat((dist[:1], dist[1:].flip(2))))
    assert identical(beside[:1], scores[:1])


def test_srsim_by_itself_lets_rows_leak(piq):
    """Why it is called a row at a time: saliency is scaled by extremes over the batch."""
    ref, dist = image_pairs(64, 64, 3)
    whole = piq.srsim(dist, ref, reduction="none")
    alone = torch.stack([piq.srsim(dist[i : i + 1], ref[i : i + 1]) for i in range(3)])
    assert (whole - alone).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_scores_lie_in_the_stated_range_and_fall_with_distortion(name, built):
    metric = built[name]
    generator = torch.Generator().manual_seed(0)
    side = max(metric.minimum_size, 40)
    noise = torch.rand(2, 2, 3, side, side, generator=generator) * 0.98 + 0.01
    ref, dist = pairs(metric)
    with torch.no_grad():
        random = metric(ref=noise[0], dist=noise[1])
        natural = metric(ref=ref, dist=dist)
        negative = metric(ref=noise[0], dist=1 - noise[0])
        same = metric(ref=ref, dist=ref)
        small = metric(ref=ref, dist=(ref + 0.02 * (dist - ref)).clamp(0, 1))
    low, high = metric.score_range
    for scores in (random, natural, negative, same):
        assert (scores >= low - 2e-4).all() and (scores <= high + 2e-4).all(), scores
    best = high if metric.higher_is_better else low
    assert "vif" in name or same.tolist() == pytest.approx([best] * 3, abs=3e-4), "identical images are the best"
    assert ((small > natural) if metric.higher_is_better else (small < natural)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_size_is_the_smallest(name, built):
    metric = built[name]
    least = metric.minimum_size
    with torch.no_grad():
        assert metric(**dict(zip(("ref", "dist"), image_pairs(least, least + 1, 1), strict=True))).isfinite().all()
        if least > 1:
            ref, dist = image_pairs(least - 1, least - 1, 1)
            try:
                below = metric(ref=ref, dist=dist)
            except Exception:
                return
            assert not below.isfinite().all()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_finite_also_where_the_librarys_are_not(name, built):
    metric = built[name]
    ref, dist = pairs(metric, 2)
    dist = dist.clone()
    dist[0] = ref[0]
    dist[1, :, :20] = ref[1, :, :20] = 0.5
    leaf = dist.requires_grad_()
    (gradient,) = torch.autograd.grad(metric(ref=ref, dist=leaf)[1], leaf)
    assert gradient.isfinite().all() and gradient[1].any() and not gradient[0].any()


def test_without_the_guard_flat_places_of_ordinary_images_would_break_an_attack(piq, built):
    data = Mini()
    images = data.load(data.entries("test")[700])
    ref, dist = images["ref"][None], images["dist"][None].requires_grad_()
    (raw,) = torch.autograd.grad(piq.vsi(dist, ref), dist)
    (guarded,) = torch.autograd.grad(built["piq:vsi"](ref=ref, dist=dist).sum(), dist)
    sound = raw.isfinite()
    assert 0 < int((~sound).sum()) < 0.2 * raw.numel()
    assert torch.equal(guarded[sound], raw[sound]) and not guarded[~sound].any()


@pytest.mark.parametrize("name", ["piq:dss", "piq:srsim"])
def test_gradients_that_small_differences_cannot_confirm_are_right(name, built):
    metric = built[name]
    ref, dist = (images.double() for images in image_pairs(64, 64, 1))
    dist = 0.05 + 0.9 * dist
    leaf = dist.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric(ref=ref, dist=leaf).sum(), leaf)
    step = 1e-4 * gradient / gradient.abs().max()
    slope = float(metric(ref=ref, dist=dist + step) - metric(ref=ref, dist=dist - step)) / 2
    assert slope == pytest.approx(float((gradient * step).sum()), rel=0.02) and not metric.exact_gradient


@pytest.mark.parametrize(("theirs", "ours", "close"), [("psnr", "psnr", 1e-4), ("vif", "vifp", 2e-4)])
def test_ours_agree_with_torchmetrics_where_definitions_coincide(theirs, ours, close, built):
    """On grey images, where the mean over R, G and B is the luma's."""
    ref, dist = (images.mean(1, keepdim=True).expand(-1, 3, -1, -1) for images in image_pairs(64, 72, 3))
    with torch.no_grad():
        scores = built[f"torchmetrics:{theirs}"](ref=ref, dist=dist)
        assert Registry().metric(ours).build({})(ref=ref, dist=dist).tolist() == pytest.approx(
            scores.tolist(), abs=close
        )


def test_ssim_differs_from_ours_by_the_border_alone(functional, built):
    """Theirs mirrors images beyond the border, ours takes whole windows only."""
    ref, dist = (images.mean(1, keepdim=True).expand(-1, 3, -1, -1) for images in image_pairs(64, 72, 3))
    _, maps = functional.structural_similarity_index_measure(dist, ref, data_range=1.0, return_full_image=True)
    inside = maps[..., 5:-5, 5:-5].flatten(1).mean(1)
    with torch.no_grad():
        mine = Registry().metric("ssim").build({})(ref=ref, dist=dist)
        assert mine.tolist() == pytest.approx(inside.tolist(), abs=1e-5)
        assert (mine - built["torchmetrics:ssim"](ref=ref, dist=dist)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("theirs", "ours", "close"),
    [("piq:gmsd", "gmsd", 1e-6), ("piq:vif_p", "vifp", 1e-4), ("piq:haarpsi", "haarpsi", 1e-4)],
)
def test_ours_agree_with_piq(theirs, ours, close, built):
    ref, dist = image_pairs(64, 72, 3)
    with torch.no_grad():
        scores = built[theirs](ref=ref, dist=dist).tolist()
        assert Registry().metric(ours).build({})(ref=ref, dist=dist).tolist() == pytest.approx(scores, abs=close)


@pytest.mark.parametrize("name", ["torchmetrics:uqi", "piq:gmsd"])
def test_the_contract_is_kept(name, built):
    check_metric(built[name], name=name)


def test_parameters_have_the_librarys_defaults_and_reach_it(piq, functional, built):
    plugin = Registry().metric("torchmetrics:ssim")
    assert {p.name: (p.annotation, p.default) for p in plugin.parameters()} == {
        "k1": (float, 0.01),
        "k2": (float, 0.03),
    }
    ref, dist = image_pairs(40, 48, 2)
    theirs = functional.structural_similarity_index_measure(dist, ref, data_range=1.0, k1=0.2, reduction="none")
    assert plugin.build({"k1": 0.2})(ref=ref, dist=dist).tolist() == pytest.approx(theirs.tolist(), abs=1e-6)
    assert plugin.code.startswith("torchmetrics 1.") and plugin.origin == plugin.code
    grey = Registry().metric("piq:psnr").build({"convert_to_greyscale": True})
    theirs = piq.psnr(dist, ref, convert_to_greyscale=True, reduction="none")
    assert torch.equal(grey(ref=ref, dist=dist), theirs)


def test_a_library_of_another_version_is_told_of():
    def renamed(preds, target, *, reductions="mean"):
        return preds

    module = types.SimpleNamespace(renamed=renamed)
    for function, said in (("renamed", "its renamed has no argument 'reduction'"), ("gone", "it has no gone")):
        known = KnownMetric(function, "x", True, (0, 1), fixed={"reduction": "none"})
        with pytest.raises(Exception, match=f"the lib that is installed is of another version: {said}. Update it."):
            metric_class("lib", "x", known, module)


class FakePyiqa(types.ModuleType):
    """What pyiqa documents: list_models, create_metric, and metrics with lower_better and score_range."""

    __version__ = "0.1.99"

    class Distance(torch.nn.Module):
        lower_better, score_range = True, "0, ~1"

        def __init__(self, reduction):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(2.0))
            self.reduction = reduction

        def forward(self, target, ref):
            torch.manual_seed(123)
            scores = self.gain * (target - 0.5 * ref).square().flatten(1).mean(1, keepdim=True)
            return scores if self.reduction == "none" else scores.mean()

    def list_models(self, metric_mode=None):
        return {"FR": ["distance", "fetched"], "NR": ["niqe"]}.get(metric_mode, ["distance", "fetched", "niqe"])

    def create_metric(self, name, as_loss=False, loss_reduction="mean", device=None):
        if name == "fetched":
            with socket.create_connection(("127.0.0.1", 9), timeout=1):
                pass
        assert as_loss, "otherwise it has no gradient"
        return self.Distance(loss_reduction).to(device)


@pytest.fixture
def pyiqa(monkeypatch):
    from harness.plugins.registry import _load

    module = FakePyiqa("pyiqa")
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    yield module
    _load.cache_clear()


def test_pyiqa_by_its_documented_interface(pyiqa):
    plugin = Registry().metric("pyiqa:distance")
    assert plugin.cls.higher_is_better is False and plugin.cls.score_range == (0, 1)
    assert plugin.code == "pyiqa 0.1.99" and not plugin.parameters()
    metric, other = plugin.build({}), plugin.build({})
    assert metric.metric is not other.metric, "each has weights of its own"
    metric.requires_grad_(False)
    ref, dist = image_pairs(16, 16, 3)
    before = torch.get_rng_state()
    with torch.no_grad():
        scores = metric(ref=ref, dist=dist)
    assert torch.equal(torch.get_rng_state(), before), "pyiqa seeds torch"
    assert scores.tolist() == pytest.approx((2 * (dist - 0.5 * ref).square().flatten(1).mean(1)).tolist(), rel=1e-6)
    leaf = dist.requires_grad_()
    (gradient,) = torch.autograd.grad(metric(ref=ref, dist=leaf).sum(), leaf)
    assert torch.allclose(gradient, 4 * (dist - 0.5 * ref) / dist[0].numel(), atol=1e-6)
    assert isinstance(metric, Metric) and not metric.needs_weights


def test_pyiqa_names_that_cannot_be_used(pyiqa, monkeypatch):
    registry = Registry()
    with pytest.raises(PluginError, match=r"metric 'pyiqa:niqe': it takes no reference image\. Take a full-reference"):
        registry.metric("pyiqa:niqe")
    with pytest.raises(PluginError, match=r"unknown metric 'pyiqa:distanse'\. Did you mean 'pyiqa:distance'\?"):
        registry.metric("pyiqa:distanse")
    monkeypatch.setenv("ROBUSTIQA_OFFLINE", "1")
    with pytest.raises(PluginError, match=r"pyiqa cannot make it \(OSError: no connection.*is set, so nothing is down"):
        registry.metric("pyiqa:fetched")
    assert socket.socket.connect is not None and registry.metric("pyiqa:distance")


@pytest.mark.parametrize(
    ("text", "numbers"), [("~0, ~1", (0, 1)), ("0, inf", (0, math.inf)), ("None", None), ("x, 1", None)]
)
def test_ranges_as_pyiqa_writes_them(text, numbers):
    from metrics_zoo.bridges.pyiqa import _range

    assert _range(text) == numbers


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_show_says_direction_range_and_size(capsys, functional):
    code, out, _ = run(capsys, "show", "torchmetrics:vif", "--json")
    (page,) = json.loads(out)
    assert code == 0 and page["properties"]["score_range"] == "0 to inf" and page["properties"]["minimum_size"] == 41
    assert page["parameters"] == [{"name": "sigma_n_sq", "type": "float", "default": 2.0}]
    code, out, _ = run(capsys, "show", "torchmetrics")
    assert code == 0 and out.split()[-1] == "torchmetrics:vif" and "torchmetrics:ergas" in out
    code, _, err = run(capsys, "show", "torchmetrix:vif")
    assert code == 2 and "nothing is registered as 'torchmetrix:vif'. Did you mean 'torchmetrics:vif'?" in err


def test_a_missing_library_is_one_sentence_and_exit_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    code, _, err = run(capsys, "show", "pyiqa:lpips")
    assert code == 2 and err == "error: metric 'pyiqa:lpips': pyiqa is not installed. Get it with: pip install pyiqa\n"
    code, out, _ = run(capsys, "show", "pyiqa", "--json")
    assert code == 0 and "pip install pyiqa" in json.loads(out)[0]["problem"]


def test_a_torchvision_that_does_not_fit_is_told_of(capsys, monkeypatch, tmp_path):
    from harness.plugins.registry import _load

    _load.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("piq", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, _, err = run(capsys, "show", "piq:gmsd")
    assert (
        code == 2 and "metric 'piq:gmsd': piq is installed but cannot be imported (RuntimeError: operator torch" in err
    )
    (tmp_path / "torchvision.py").unlink()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    code, _, err = run(capsys, "show", "piq:gmsd")
    assert code == 2 and "piq needs torchvision, which is not installed. Get it with: pip install torchvision" in err


SUITE = """
name: bridged
datasets: [mini]
metrics: [torchmetrics:uqi, {name: "torchmetrics:ssim", k1: 0.1}]
attacks: [fgsm]
budgets: {linf: [8/255]}
directions: [up]
tables: [shift]
limit: 8
"""


def test_a_suite_from_the_command_line(capsys, monkeypatch, tmp_path, functional):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    code, out, err = run(capsys, "run", path, "--executor", "serial", "--no-probes")
    assert code == 0, err
    assert "torchmetrics:uqi" in out and "torchmetrics:ssim(k1=0.1)" in out
    folder = tmp_path / "results" / "runs" / "bridged"
    assert not [file for file in folder.rglob("*") if ":" in file.name], "not every file system takes a colon"
    assert "torchmetrics:ssim(k1=0.1)" in (folder / "report" / "tables" / "shift.md").read_text(encoding="utf-8")
    code, out, _ = run(capsys, "plan", path, "--only", "torchmetrics:u*/fgsm", "--json")
    assert code == 0 and json.loads(out)["pending"]["blocks"] == 0
    code, out, _ = run(capsys, "plan", path, "--set", "metrics.torchmetrics:ssim.k2=0.05", "--json")
    assert code == 0 and json.loads(out)["pending"]["blocks"] == 1 and "k1=0.1, k2=" in out
    path.write_text(SUITE.replace("uqi", "vif"))
    code, _, err = run(capsys, "validate", path)
    assert code == 2 and "the metric 'torchmetrics:vif' is not differentiable. Take a black-box attack" in err


DOCS = Path(__file__).parents[2] / "docs" / "bridges.md"


def test_the_table_of_the_documentation_is_what_is_known():
    rows = re.findall(r"^\| `(\w+:\w+)` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == NAMES
    for (name, row), known in zip(rows, [*torchmetrics_bridge.KNOWN.values(), *piq_bridge.KNOWN.values()], strict=True):
        low, high = known.score_range
        above = {math.inf: "∞)", math.pi / 2: "π/2]"}.get(high, f"{high:g}]")
        facts = ["higher" if known.higher_is_better else "lower", f"[{low:g}, {above}", str(known.minimum_size)]
        facts += ["yes" if known.differentiable else "no", ", ".join(f"`{p}`" for p in known.parameters)]
        assert [cell.strip() for cell in row.split("|")] == facts, name


def test_the_bridge_of_the_documentation_works(tmp_path):
    pytorch_msssim = pytest.importorskip("pytorch_msssim")
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    file = tmp_path / "msssim.py"
    file.write_text(code)
    plugin = Registry([file]).metric("msssim:ssim")
    ref, dist = image_pairs(32, 40, 3)
    theirs = pytorch_msssim.ssim(dist, ref, data_range=1.0, size_average=False, win_sigma=1.2)
    assert torch.equal(plugin.build({"win_sigma": 1.2})(ref=ref, dist=dist), theirs)
    check_metric(plugin.build({}), name="msssim:ssim")
