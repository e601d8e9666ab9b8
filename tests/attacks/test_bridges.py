"""Attacks of other libraries: they reach what is known, agree with ours, and leave nothing behind."""

import contextlib
import json
import random
import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.bridges import art as art_bridge
from attacks.bridges import pyautoattack as pyautoattack_bridge
from attacks.bridges import torchattacks as torchattacks_bridge
from attacks.bridges.classifier import AsClassifier, Foreign, KnownAttack, attack_class
from harness.cli import main
from harness.contracts import Budget, Metric, QueryLimit, SampleRng, UserError
from harness.engine.objective import ScorerObjective
from harness.engine.scorer import Scorer
from harness.plugins.build import default_metric
from harness.plugins.model import PluginError
from harness.plugins.registry import Registry, _load
from harness.testing import check_attack

EPS = 8 / 255
MODULES = {"torchattacks": "torchattacks", "pyautoattack": "pyautoattack", "art": "art.attacks.evasion"}


def library(prefix):
    """The library, or a skip."""
    return pytest.importorskip(MODULES[prefix], reason=f"robustiqa[{prefix}] is not installed")


class Weighted(Metric):
    """Mean of w x (dist - ref), w of both signs and many sizes."""

    cite = ""
    higher_is_better = True

    @staticmethod
    def weights(images):
        return torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(3))

    def score(self, reference, dist):
        return (self.weights(dist) * (dist - reference)).flatten(1).mean(1)


def pairs(count=2, height=16, width=20, low=0.2, high=0.8):
    draws = SampleRng.for_samples(0, [f"pair {i}" for i in range(count)], "images")
    return draws.uniform(3, height, width, low=low, high=high), draws.uniform(3, height, width, low=low, high=high)


def strike(name, parameters, metric, pair, sign=1.0, *, norm="linf", eps=EPS, scale=0.1, ids=None):
    """(the images in the budget, their gain in J, the objective) as the engine makes them."""
    attack = Registry().attack(name).build(parameters)
    ref, dist = pair
    ids = ids or [f"sample {i}" for i in range(len(dist))]
    budget = Budget(norm, torch.full((len(dist),), eps))
    objective = ScorerObjective(
        Scorer(metric),
        ref,
        dist,
        torch.full((len(dist),), float(sign)),
        budget,
        SampleRng.for_samples(0, ids, "defense"),
        white_box=attack.needs_gradient,
        query_limit=None if attack.needs_gradient else attack.queries,
        scale=scale,
    )
    with contextlib.nullcontext() if attack.needs_gradient else torch.no_grad():
        try:
            found = attack.perturb(objective, dist.clone(), budget, SampleRng.for_samples(0, ids, "attack"))
        except QueryLimit:
            found = objective.best()
    images = budget.project(found, dist)
    assert torch.allclose(images, found, atol=2e-6), "the best image is one inside the budget"
    with torch.no_grad():
        encoded = Scorer(metric).encode(ref, SampleRng([]))
        before, after = (Scorer(metric).quality(encoded, x) for x in (dist, images))
    return images, sign * (after - before), objective


def optimum(dist, norm, eps):
    weights = Weighted.weights(dist)
    return eps * float(weights.abs().mean() if norm == "linf" else weights.norm() / weights.numel())


EXACT = [
    ("torchattacks:FGSM", {}, "linf", 0.9999),
    ("torchattacks:PGD", {"steps": 10}, "linf", 0.9999),
    ("torchattacks:PGDL2", {"steps": 10}, "l2", 0.99),
    ("torchattacks:APGD", {"steps": 10}, "linf", 0.999),
    ("pyautoattack:apgd-ce", {"n_iter": 10}, "linf", 0.999),
    ("pyautoattack:apgd-dlr", {"n_iter": 10}, "l2", 0.99),
    ("art:FastGradientMethod", {}, "linf", 0.9999),
    ("art:ProjectedGradientDescent", {"max_iter": 10}, "linf", 0.9999),
    ("art:AutoProjectedGradientDescent", {"max_iter": 10, "nb_random_init": 1}, "l2", 0.99),
]


@pytest.mark.parametrize(("name", "parameters", "norm", "share"), EXACT, ids=[f"{e[0]}-{e[2]}" for e in EXACT])
def test_the_closed_form_of_a_linear_metric(name, parameters, norm, share):
    library(name.partition(":")[0])
    pair, eps = pairs(), EPS if norm == "linf" else 0.5
    for sign in (1.0, -1.0):
        _, gain, objective = strike(name, parameters, Weighted(), pair, sign, norm=norm, eps=eps)
        assert bool((gain >= share * optimum(pair[1], norm, eps)).all()), gain / optimum(pair[1], norm, eps)
        assert bool((objective.ledger.backwards > 0).all()) and int(objective.ledger.queries.sum()) == 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchattacks:PGD", {"steps": 10, "random_start": False}),
        ("art:ProjectedGradientDescent", {"max_iter": 10}),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_agrees_with_our_own_pgd(name, parameters, sign):
    library(name.partition(":")[0])
    registry = Registry()
    metric = default_metric("birqa-tiny", registry, torch.device("cpu"))
    mini = registry.dataset("mini").build({})
    loaded = [
        mini.load(e) for e in mini.entries("test") if e.id.endswith(("coffee-0/jpeg/3", "chelsea-1/white_noise/2"))
    ]
    pair = tuple(torch.stack([x[k][..., 32:96, 32:96] for x in loaded]) for k in ("ref", "dist"))
    _, theirs, objective = strike(name, parameters, metric, pair, sign, scale=4.0)
    _, ours, _ = strike("pgd", {"steps": 10, "start": "zero", "keep": "best"}, metric, pair, sign, scale=4.0)
    assert theirs.tolist() == pytest.approx(ours.tolist(), rel=0.02) and bool((theirs > 0.05).all())
    assert int(objective.ledger.forwards.max()) <= 10 + 6 and objective.ledger.backwards.tolist() == [10, 10]


@pytest.mark.parametrize("name", ["torchattacks:Square", "pyautoattack:square", "art:SquareAttack", "art:SimBA"])
def test_queries_are_kept_and_used(name):
    library(name.partition(":")[0])
    norm = "l2" if name == "art:SimBA" else "linf"
    images, gain, objective = strike(
        name, {"queries": 60}, Weighted(), pairs(), norm=norm, eps=EPS if norm == "linf" else 2
    )
    queries = objective.ledger.queries
    assert bool((queries <= 60).all()) and bool((queries > 50).all()) and int(objective.ledger.backwards.sum()) == 0
    assert bool((gain > 0).all())
    again, *_ = strike(name, {"queries": 60}, Weighted(), pairs(), norm=norm, eps=EPS if norm == "linf" else 2)
    assert torch.equal(images, again)


def test_spsa_steps_follow_from_queries():
    library("torchattacks")
    attack = Registry().attack("torchattacks:SPSA").build({"queries": 50, "nb_sample": 4})
    assert attack.arguments(Budget("linf", torch.tensor([EPS])))["nb_iter"] == 6
    _, gain, objective = strike("torchattacks:SPSA", {"queries": 50, "nb_sample": 4}, Weighted(), pairs())
    assert objective.ledger.queries.tolist() == [50, 50] and bool((gain > 0).all())


def states():
    legacy = np.random.get_state()  # noqa: NPY002 (what must not move)
    return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchattacks:PGD", {"steps": 2}),
        ("torchattacks:APGD", {"steps": 2}),
        ("pyautoattack:square", {"queries": 8}),
        ("art:SquareAttack", {"queries": 12}),
    ],
)
def test_seeds_are_each_samples_own_and_the_global_ones_are_put_back(name, parameters):
    library(name.partition(":")[0])
    random.seed(3)
    before = states()
    both, *_ = strike(name, parameters, Weighted(), pairs())
    assert states() == before
    random.seed(4)
    torch.manual_seed(4)
    ref, dist = pairs()
    alone, *_ = strike(name, parameters, Weighted(), (ref[1:], dist[1:]), ids=["sample 1"])
    assert torch.equal(alone[0], both[1]), "whatever is in its batch"
    other, *_ = strike(name, {**parameters}, Weighted(), (ref[1:], dist[1:]), ids=["sample 7"])
    start = {"torchattacks:PGD", "pyautoattack:square", "art:SquareAttack"}
    assert torch.equal(other, alone) != (name in start)


def test_tracing_is_put_back_where_pyautoattack_ends_it(monkeypatch):
    checks = pytest.importorskip("pyautoattack.checks")
    ended, check = [], checks.check_dynamic

    def watched(*arguments, **options):
        check(*arguments, **options)
        ended.append(sys.gettrace())

    def tracer(frame, event, argument):
        return None

    monkeypatch.setattr(checks, "check_dynamic", watched)
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        # So small a range that the class flips at once, and the members after the first are skipped.
        _, gain, _ = strike("pyautoattack:standard", {}, Weighted(), pairs(1), scale=1e-3)
        kept = sys.gettrace()
    finally:
        sys.settrace(before)
    assert ended == [None] and kept is tracer and bool((gain > 1e-3).all())


def test_the_score_as_a_classifier():
    ref, dist = pairs(1)
    budget = Budget("linf", torch.tensor([0.5]))
    draws = SampleRng.for_samples(0, ["a"], "defense")
    objective = ScorerObjective(Scorer(Weighted()), ref, dist, torch.tensor([-1.0]), budget, draws, scale=0.05)
    model = AsClassifier(objective, dist)
    pattern = Weighted.weights(dist).sign()
    images = torch.cat([dist, dist - 0.02 * pattern, dist - 0.2 * pattern])
    logits = model(images)
    for k, step in enumerate((0.0, 0.02, 0.2)):
        rise = step * float(Weighted.weights(dist).abs().mean())
        z = 1 - rise / 0.05
        assert logits[k].tolist() == pytest.approx([z, -z, -20, -20], abs=1e-5)
    assert logits.argmax(1).tolist() == [0, 0, 1], "the class falls when J has risen by the whole range"
    assert objective.ledger.forwards.tolist() == [4] and next(model.parameters()).device == dist.device
    blind = ScorerObjective(
        Scorer(Weighted()), ref, dist, torch.tensor([1.0]), budget, draws, white_box=False, query_limit=2
    )
    model = AsClassifier(blind, dist)
    assert model(torch.cat([dist, images[1:2]])).tolist()[1] == [20, -20, -20, -20], "one had no query left"
    with pytest.raises(QueryLimit):
        model(dist)


def test_a_library_that_returns_nonsense_is_outvoted():
    class Nonsense:
        def __init__(self, model, eps=0.1, steps=3):
            self.model = model

    class Nowhere(Foreign):
        def run(self, model, start, arguments, seed):
            model(start + 0.01 * Weighted.weights(start).sign())
            return start * torch.nan

    attack = attack_class("lib", "x", KnownAttack("x"), Nonsense, Nowhere)()
    ref, dist = pairs()
    budget = Budget("linf", torch.full((2,), EPS))
    draws = SampleRng.for_samples(0, ["a", "b"], "defense")
    objective = ScorerObjective(Scorer(Weighted()), ref, dist, torch.ones(2), budget, draws)
    found = attack.perturb(objective, dist, budget, draws)
    assert torch.allclose(found, dist + 0.01 * Weighted.weights(dist).sign())
    with pytest.raises(
        UserError, match="the lib that is installed is of another version: its Nonsense lacks the argument"
    ):
        attack_class("lib", "x", KnownAttack("x", fixed={"gone": 1}), Nonsense, Nowhere)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchattacks:PGD", {"steps": 1}),
        ("torchattacks:Square", {"queries": 5}),
        ("pyautoattack:apgd-ce", {"n_iter": 1}),
    ],
)
def test_the_conformance_kit(name, parameters):
    library(name.partition(":")[0])
    check_attack(Registry().attack(name).build(parameters), name=name, size=12)


def test_parameters_are_those_of_the_library():
    library("torchattacks")
    registry = Registry()
    plugin = registry.attack("torchattacks:PGD")
    found = {p.name: (p.annotation, p.default) for p in plugin.parameters()}
    assert found == {"alpha": (float, 2 / 255), "steps": (int, 10), "random_start": (bool, True)}
    assert plugin.code.startswith("torchattacks 3.") and plugin.cls.norms == {"linf"} and plugin.cls.needs_gradient
    square = registry.attack("torchattacks:Square")
    assert not square.cls.needs_gradient and {p.name for p in square.parameters()} >= {"queries", "p_init"}
    assert registry.attack("torchattacks:PGDL2").cls.norms == {"l2"}
    assert registry.attack("torchattacks:APGD").cls.norms == {"linf", "l2"}
    for parameters, said in (
        ({"steps": 0}, "steps should be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha should be above 0, got 0"),
        ({"alpha": -1.0}, "alpha should be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=said):
            plugin.build(parameters)
    with pytest.raises(ValueError, match="queries should be at least 1, got 0"):
        square.build({"queries": 0})


def test_the_step_of_art_goes_with_the_radius():
    library("art")
    made = Registry().attack("art:ProjectedGradientDescent").build({})
    assert made.arguments(Budget("linf", torch.tensor([EPS])))["eps_step"] == pytest.approx(2 / 255)
    given = Registry().attack("art:ProjectedGradientDescent").build({"eps_step": 0.5})
    assert given.arguments(Budget("l2", torch.tensor([2.0]))) == {
        **{"norm": 2, "eps": 2.0, "eps_step": 0.5, "max_iter": 100, "num_random_init": 0},
        **{"decay": None, "random_eps": False},
    }


@pytest.mark.parametrize("bridge", [torchattacks_bridge, art_bridge], ids=["torchattacks", "art"])
def test_every_class_of_a_library_is_known_or_refused(bridge):
    prefix = bridge.__name__.rpartition(".")[2]
    module = library(prefix)
    if prefix == "torchattacks":
        classes = set(module.__all__)
    else:
        base = pytest.importorskip("art.attacks.attack").EvasionAttack
        classes = {n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, base)}
    assert classes - set(bridge.KNOWN) - set(bridge.REFUSED) == set()
    assert not set(bridge.KNOWN) & set(bridge.REFUSED)
    registry = Registry()
    for name in bridge.KNOWN:
        attack = registry.attack(f"{prefix}:{name}").build({})
        for norm in attack.norms:
            assert set(attack.arguments(Budget(norm, torch.tensor([0.5])))) >= set(bridge.KNOWN[name].fixed)


def test_pyautoattack_has_what_it_names():
    library("pyautoattack")
    registry = Registry()
    for name in pyautoattack_bridge.KNOWN:
        assert registry.attack(f"pyautoattack:{name}").cls.norms == {"linf", "l2"}


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "torchattacks:PGD",
            "torchattacks is not installed. Get it with: pip install --no-deps torchattacks==3.5.1 tqdm",
        ),
        ("pyautoattack:fab", "pyautoattack is not installed. Get it with: pip install --no-deps pyautoattack==0.2.0"),
        ("art:DeepFool", f"art is not installed. Get it with: {art_bridge._INSTALL}"),
    ],
)
def test_a_missing_library_is_one_sentence_and_exit_2(name, said, capsys, monkeypatch):
    top = name.partition(":")[0]
    _load.cache_clear()
    for module in [m for m in sys.modules if m.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, top, None)
    code, _, err = run(capsys, "show", name)
    assert code == 2 and err == f"error: attack '{name}': {said}\n"
    marks = [
        b.bridge_mark for b in (torchattacks_bridge.Torchattacks, pyautoattack_bridge.PyAutoAttack, art_bridge.ART)
    ]
    assert next(mark for mark in marks if mark.prefix == top).install in said


def test_names_that_cannot_be_had():
    library("torchattacks")
    registry = Registry()
    with pytest.raises(
        PluginError, match=r"attack 'torchattacks:OnePixel': it changes few pixels by any amount \(L0\)"
    ):
        registry.attack("torchattacks:OnePixel")
    with pytest.raises(PluginError, match=r"unknown attack 'torchattacks:PGF'\. Did you mean 'torchattacks:PGD'\?"):
        registry.attack("torchattacks:PGF")
    with pytest.raises(PluginError, match=r"attack 'art:HopSkipJump': it starts from an image of another class"):
        registry.attack("art:HopSkipJump")


def test_show_and_list(capsys):
    library("torchattacks")
    code, out, _ = run(capsys, "show", "torchattacks:PGD", "--json")
    (page,) = json.loads(out)
    assert code == 0 and page["properties"]["norms"] == ["linf"]
    assert {"name": "steps", "type": "int", "default": 10} in page["parameters"]
    code, out, _ = run(capsys, "list", "bridges")
    assert code == 0 and all(f"{prefix}:NAME (attacks)" in out for prefix in MODULES)
    code, out, _ = run(capsys, "show", "torchattacks")
    assert code == 0 and "torchattacks:VNIFGSM" in out and "OnePixel" not in out


BRIDGES = Path(__file__).parents[2] / "suites" / "bridges.yaml"


def test_a_suite_drives_an_attack_of_each_library_against_ours(capsys, monkeypatch, tmp_path):
    for prefix in MODULES:
        library(prefix)
    monkeypatch.chdir(tmp_path)
    small = ("--limit", "2", "--only", "psnr/*")
    code, _, err = run(capsys, "run", BRIDGES, *small, "--executor", "serial", "--no-probes")
    assert code == 0, err
    folder = tmp_path / "results" / "runs" / "bridges"
    assert not [file for file in folder.rglob("*") if ":" in file.name], "not every file system takes a colon"
    table = pd.read_csv(folder / "report" / "tables" / "shift.csv")
    for direction in ("up", "down"):
        rows = table[table["direction"] == direction]
        moved = {
            row.attack.partition("(")[0].partition(" ")[0]: row.shift_over_sigma for row in rows.itertuples(index=False)
        }
        # Steps of one size along the sign from the same start: the same images, but for the rounding of two loops.
        assert moved["torchattacks:PGD"] == pytest.approx(moved["pgd"], rel=1e-4)
        assert moved["art:ProjectedGradientDescent"] == pytest.approx(moved["pgd"], rel=1e-4)
        # One algorithm; theirs draws another start, and counts evaluations of it among its steps.
        assert moved["pyautoattack:apgd-ce"] == pytest.approx(moved["apgd"], rel=0.15)
        # Random search at 200 queries: of one size, where anything moved.
        assert moved["art:SquareAttack"] == pytest.approx(moved["square"], rel=0.3, abs=0.03)
    code, out, _ = run(capsys, "plan", BRIDGES, *small, "--json")
    assert code == 0 and json.loads(out)["pending"]["blocks"] == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        BRIDGES.read_text(encoding="utf-8").replace(
            '{name: "torchattacks:PGD", steps: 10', '{name: "torchattacks:PGD", steps: 0'
        )
    )
    code, _, err = run(capsys, "validate", wrong)
    assert code == 2 and "steps should be at least 1, got 0" in err


DOCS = Path(__file__).parents[2] / "docs" / "attack_bridges.md"


@pytest.mark.parametrize("bridge", [torchattacks_bridge, pyautoattack_bridge, art_bridge], ids=MODULES)
def test_the_tables_of_the_documentation_are_about_what_there_is(bridge):
    prefix = bridge.__name__.rpartition(".")[2]
    page = DOCS.read_text(encoding="utf-8")
    section = re.search(f"<!-- {prefix} -->(.*)<!-- end of {prefix} -->", page, re.DOTALL)[1]
    named = re.findall(rf"^\| `{prefix}:([\w-]+)` \| ", section, re.MULTILINE)
    assert set(named) == set(bridge.KNOWN)
    refused = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.+) \|$", section, re.MULTILINE)
    assert {n: why for names, why in refused for n in re.findall(r"\w+", names)} == dict(getattr(bridge, "REFUSED", {}))
    mark = next(c for c in vars(bridge).values() if isinstance(c, type) and "bridge_mark" in vars(c)).bridge_mark
    assert f"`{mark.install}`" in page and isinstance(bridge, types.ModuleType)
