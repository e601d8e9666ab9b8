"""Purifiers with networks, both gradients, chains and trained weights, on plugins whose best attacks are known."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.cli.list import Listed, _listed
from harness.contracts import SampleRng
from harness.engine.scorer import build_scorer
from harness.flow import Options, run_suite
from harness.plugins.registry import Registry
from harness.suite.compose import Overrides
from harness.suite.identity import identity
from harness.suite.plan import ScorerSpec
from harness.suite.planning import make_plan
from harness.suite.resolve import read_suite
from harness.suite.strict_yaml import LocatedError

EPS = 4 / 255
PATTERN = {"base": (1.0, 1.0, 1.0), "trained": (0.5, -0.5, 0.5), "other": (0.25, 0.25, -0.5)}


@pytest.fixture(scope="module")
def defended(toy_file):
    return Registry([toy_file, toy_file.with_name("defended.py")])


@pytest.fixture
def files(tmp_path):
    """Weight files of the metric, and of the purifiers' network, by name."""
    for name, w in PATTERN.items():
        save_file({"w": torch.tensor(w)}, tmp_path / f"{name}.safetensors")
    save_file({"gain": torch.tensor([0.5, 1.0, 0.25])}, tmp_path / "gain.safetensors")
    save_file({"gain": torch.tensor([1.0, 1.0, 0.0])}, tmp_path / "gain2.safetensors")
    return {path.stem: str(path) for path in tmp_path.glob("*.safetensors")}


@pytest.fixture
def suite(defended, files):
    """Defenses -> a suite of one metric, attacked by one exact step; ``{name}`` stands for a weight file."""

    def of(defenses, overrides=None, **keys):
        value = {
            "name": "toy",
            "datasets": ["toy"],
            "metrics": [{"name": "weighed", "weights": files["base"]}],
            "defenses": defenses,
            "attacks": ["fgsm"],
            "budgets": {"linf": [EPS]},
            "directions": ["up"],
        }
        return read_suite({**value, **keys}, defended, overrides)

    return of


@pytest.fixture
def records(suite, defended, tmp_path):
    def of(defenses, **keys):
        options = Options(out=tmp_path / "run", executor="serial", probe=False)
        return run_suite(suite(defenses, **keys), defended, options).data.records

    return of


def gains(records, **where):
    """Mean of what the attack gained, over the rows picked."""
    for column, value in where.items():
        records = records[records[column] == value]
    rows = records[records.attack == "fgsm"]
    assert len(rows), where
    return float((rows.attacked - rows.clean).mean())


def test_a_network_is_loaded_attacked_through_and_part_of_identity(suite, records, files, defended):
    one = {"name": "gains", "weights": files["gain"]}
    found = records(["base", {**one, "threat": "adaptive"}])
    assert gains(found, defense="base") == pytest.approx(EPS, abs=2e-4)
    assert gains(found, defense="gains") == pytest.approx(EPS * (0.5 + 1 + 0.25) / 3, abs=2e-4)
    keys = {
        identity("defense", suite([entry]).defenses[0].identity())
        for entry in (one, {**one, "weights": files["gain2"]}, {**one, "weights": "random"})
    }
    assert len(keys) == 3
    again = read_suite(suite([one]).resolved(), defended)
    assert again == suite([one]) and again.weights()["gains"] == suite([one]).defenses[0].purifiers[0].weights


def test_an_untrained_network_is_the_same_everywhere(suite, defended):
    spec = make_plan(suite([{"name": "gains", "weights": "random", "threat": "adaptive"}]), defended).cells[0].scorer
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        scorer = build_scorer(spec, defended, torch.device("cpu"))
        scores.append(scorer.quality(scorer.encode(images, SampleRng([], images.device)), images * 0.5))
    assert torch.equal(*scores)


def test_a_reference_that_is_not_purified(suite, files, defended):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name, factor in (("gains", torch.tensor([0.5, 1.0, 0.25])), ("gains_of_both", None)):
        purifiers = suite([{"name": name, "weights": files["gain"]}]).defenses[0].purifiers
        scorer = build_scorer(ScorerSpec(suite(["base"]).metrics[0], purifiers), defended, torch.device("cpu"))
        quality = scorer.quality(scorer.encode(images, SampleRng([], images.device)), images)
        purified = images * factor.view(3, 1, 1) if factor is not None else images
        assert torch.allclose(quality, (purified - images).flatten(1).mean(1), atol=1e-6)


def test_both_gradients_are_run_and_each_sample_keeps_the_better(records):
    found = records([{"name": "half_masked", "threat": "adaptive"}], attacks=["fgsm", {"name": "noise"}])
    rows = found[found.attack == "fgsm"]
    assert np.allclose(rows.attacked - rows.clean, EPS, atol=2e-4), "one gradient is right for every sample"
    assert set(rows.gradient) == {"exact", "surrogate"} and rows.status.eq("ok").all()
    assert rows.forwards.eq(2).all() and rows.backwards.eq(2).all(), "one step by each"
    assert found[found.attack == "noise"].gradient.isna().all()


def test_an_oblivious_attack_on_a_both_purifier_is_run_once(records):
    rows = records(["half_masked"])
    assert rows[rows.attack == "fgsm"].forwards.eq(1).all() and "gradient" not in rows


def test_diffpure_mini_is_attacked_by_both_gradients(records):
    weighed = {"name": "diffpure-mini", "t": 2, "threat": "adaptive", "eot": 1}
    keys = {"datasets": [{"name": "toy", "size": 64}], "limit": 1, "attacks": [{"name": "pgd", "steps": 1}]}
    rows = records([weighed], **keys)
    rows = rows[rows.attack != "clean"]
    assert set(rows.gradient) <= {"exact", "surrogate"} and rows.status.eq("ok").all() and len(rows) == 1
    assert rows.backwards.eq(2).all() and (rows.attacked > rows.clean).all()


def test_untrained_purifiers_are_called_so_and_tables_name_their_weights(suite, defended, tmp_path):
    both = suite(["denoise", {"name": "denoise", "weights": "random"}], limit=2, tables=["shift"])
    assert [one.label for one in both.defenses] == ["denoise", "denoise(weights=random)"]
    options = Options(out=tmp_path / "run", executor="serial", probe=False)
    (table,) = run_suite(both, defended, options).tables
    digest = both.weights()["denoise"][:12]
    assert f"embedded denoiser, weights sha256 {digest}; denoise(weights=random) = Adds" in table.protocol
    assert "RANDOM weights: it purifies nothing" in table.protocol
    assert "scored with it: not a robustness claim" in table.protocol


def test_a_chain_is_applied_in_order(suite, defended):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    dist = (images + 0.05).clamp(0, 1)
    rounded = [lambda x: torch.round(x * 15) / 15, lambda x: x * 0.5]
    for chain, (first, then) in ((["rounding", "darken"], rounded), (["darken", "rounding"], rounded[::-1])):
        (defense,) = suite([chain]).defenses
        assert (defense.label, defense.threat, defense.eot) == ("+".join(chain), "oblivious", 1)
        scorer = build_scorer(ScorerSpec(suite(["base"]).metrics[0], defense.purifiers), defended, torch.device("cpu"))
        quality = scorer.quality(scorer.encode(images, SampleRng.for_samples(0, ["a", "b"], "defense")), dist)
        assert torch.allclose(quality, (then(first(dist)) - then(first(images))).flatten(1).mean(1), atol=1e-6)


def test_what_a_suite_says_of_chains_reads_the_same(suite, files, defended):
    written = suite(
        [
            "base",
            ["rounding", {"name": "darken", "label": "dark"}],
            {"chain": ["rounding", "darken"], "threat": "adaptive", "label": "mine", "draws": 3},
            {"chain": [{"name": "r", "weights": {"weighed": files["trained"]}}, "flip"], "threat": "adaptive"},
            {"name": "r", "weights": {"weighed": files["trained"]}},
            {"chain": ["flip", "rounding"], "matrix": {"threat": ["oblivious", "adaptive"]}},
        ]
    )
    assert [(one.label, one.threat, one.eot) for one in written.defenses] == [
        ("base", "none", 1),
        ("rounding+dark", "oblivious", 1),
        ("mine", "adaptive", 20),
        ("r+flip", "adaptive", 20),
        ("r", "adaptive", 1),
        ("flip+rounding", "oblivious", 1),
        ("flip+rounding", "adaptive", 20),
    ]
    assert read_suite(written.resolved(), defended) == written


def test_options_reach_into_chains(suite, files):
    mine = {"name": "mine", "weights": {"weighed": files["trained"]}}
    options = (
        "defenses.jitter+flip.threat=adaptive",
        "defenses.0.chain.0.strength=0.5",
        "defenses.mine.threat=oblivious",
    )
    found = suite([["jitter", "flip"], mine], Overrides(options, only="weighed/clean")).defenses
    assert [one.threat for one in found] == ["adaptive", "oblivious"]
    assert found[0].label == "jitter(strength=0.5)+flip" and found[0].purifiers[0].parameters["strength"] == 0.5
    assert (
        suite([{"chain": ["jitter", "flip"]}], Overrides(("defenses.jitter+flip.eot=3", "defenses.0.threat=adaptive")))
        .defenses[0]
        .eot
        == 3
    )


def test_trained_weights_take_the_place_of_the_metrics_own(records, files):
    trained = {"name": "mine", "weights": {"weighed": files["trained"]}}
    found = records(["base", trained, {**trained, "threat": "oblivious"}])
    assert gains(found, defense="base") == pytest.approx(EPS, abs=2e-4)
    assert gains(found, threat="adaptive") == pytest.approx(EPS / 2, abs=2e-4), "eps mean|w|"
    assert gains(found, threat="oblivious") == pytest.approx(EPS / 6, abs=2e-4), "all channels up, as the base asks"
    assert set(found.metric) == {"weighed"} and set(found.defense) == {"base", "mine"}
    assert set(found[found.threat == "adaptive"].source) == {"weighed@mine"}
    clean = found[found.attack == "clean"].pivot(index="item", columns="defense", values="clean")
    assert not np.allclose(clean["base"], clean["mine"])


def test_a_chain_on_trained_weights(records, files):
    chain = {"chain": [{"name": "mine", "weights": {"weighed": files["trained"]}}, _gains(files)]}
    found = records([chain, {**chain, "threat": "adaptive"}])
    known = 0.5 * (0.5 + 1.0 + 0.25) / 3
    assert gains(found, threat="adaptive") == pytest.approx(EPS * known, abs=2e-4)
    assert gains(found, threat="oblivious") == pytest.approx(EPS * known, abs=2e-4), "it knows the trained weights"
    assert set(found[found.threat == "oblivious"].source) == {"weighed@mine"}


def _gains(files):
    return {"name": "gains", "weights": files["gain"]}


def test_where_trained_weights_are_looked_for(suite, files, tmp_path, defended):
    folder = tmp_path / "trained"
    folder.mkdir()
    for name, weights in (("seed 0@mine", "trained"), ("weighed@mine", "other")):
        save_file({"w": torch.tensor(PATTERN[weights])}, folder / f"{name}.safetensors")
    metrics = [{"name": "weighed", "label": label, "weights": files["base"]} for label in ("seed 0", "seed 1")]
    metrics[1] = {"name": "weighed", "label": "seed 1", "weights": "random"}
    found = suite([{"name": "mine", "weights": str(folder)}], metrics=metrics).defenses[0].trained.metrics
    assert [found[label].weights_file.stem for label in ("seed 0", "seed 1")] == ["seed 0@mine", "weighed@mine"]
    plan = make_plan(suite(["base", {"name": "mine", "weights": str(folder)}], metrics=metrics), defended)
    assert len(plan.metrics) == len(plan.probes) == 4, "no two weights of one metric are merged"


def test_the_manifest_names_trained_weights(suite, monkeypatch, tmp_path, files, defended):
    from hashlib import sha256

    from harness.plugins.weights import locate

    zoo = tmp_path / "zoo"
    zoo.mkdir()
    content = (tmp_path / "trained.safetensors").read_bytes()
    (zoo / "weighed@robust.safetensors").write_bytes(content)
    digest = sha256(content).hexdigest()
    text = f'{{"weighed@robust": {{"file": "weighed@robust.safetensors", "sha256": "{digest}", "metric": "weighed"}}}}'
    (zoo / "manifest.json").write_text(text)
    monkeypatch.setattr(locate, "zoo", lambda: zoo)
    (defense,) = suite(["robust"]).defenses
    assert defense.threat == "adaptive" and defense.trained.metrics["weighed"].weights == digest
    with pytest.raises(LocatedError, match=r"unknown defense 'robst'\. Did you mean 'robust'\?"):
        suite(["robst"])
    rows = {row["name"]: row["from"] for row in _listed(Listed.defenses, defended)}
    assert rows["robust"] == "weights weighed@robust"
    two = [{"name": "weighed", "weights": files["base"]}, "psnr"]
    with pytest.raises(LocatedError, match="'psnr' has no weights that could be trained"):
        suite(["robust"], metrics=two)
    other = [{"name": "birqa", "weights": "random"}]
    with pytest.raises(LocatedError, match=r"the manifest has no 'birqa@robust'\. Train them with `robustiqa train"):
        suite(["robust"], metrics=other)
    with pytest.raises(LocatedError, match=r"misfit\.safetensors.* does not fit"):
        save_file({"v": torch.zeros(3)}, tmp_path / "misfit.safetensors")
        suite([{"name": "mine", "weights": {"weighed": str(tmp_path / "misfit.safetensors")}}])
    out = suite(["base", "robust"], metrics=two, exclude=[{"metric": "psnr", "defense": "robust"}])
    assert {(c.scorer.label, c.who[2]) for c in make_plan(out, defended).cells} == {
        ("weighed", "base"),
        ("psnr", "base"),
        ("weighed@robust", "robust"),
    }


def test_one_set_of_weights_is_one_defense(suite, files):
    mine = {"name": "mine", "weights": {"weighed": files["trained"]}}
    with pytest.raises(LocatedError, match="are those that 'weighed' has anyway"):
        suite([{"name": "mine", "weights": {"weighed": files["base"]}}])
    with pytest.raises(LocatedError, match="are those of 'mine', too"):
        suite([mine, {**mine, "name": "yours", "threat": "oblivious"}])
