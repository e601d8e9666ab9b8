"""Training against an attack: what is attacked and how, resume, the step log, robust validation, the alarm."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from attacks.pgd import PGD
from harness.contracts import ContradictionError, Entry, Metric, TrainingBatch
from harness.errors import UserError
from harness.plugins.registry import Registry
from harness.training import preview, train
from harness.training.inner import Inner
from harness.training.overheard import Spread
from harness.training.recipe_file import RobustUse, read_recipe
from harness.training.robust import RobustValidation, stratified
from harness.training.steps import Step, StepLog

EPS = 8 / 255
INNER = "inner: {name: pgd, steps: 3, step_size: 4/255, eps: 8/255}"


class Linear(Metric):
    """Quality = <w, dist>: the strongest attack moves it by eps x sum|w|, whatever the image."""

    higher_is_better = True

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, side, side, generator=torch.Generator().manual_seed(3)))

    def score(self, reference, dist):
        return (self.weight * dist).flatten(1).sum(1)

    @property
    def reach(self) -> float:
        return EPS * float(self.weight.detach().abs().sum())


def batch_of(attacked, side=16):
    generator = torch.Generator().manual_seed(5)
    ref, clean = (0.3 + 0.4 * torch.rand(len(attacked), 3, side, side, generator=generator) for _ in range(2))
    target = torch.linspace(-40, 40, len(attacked))
    tensors = {"ref": ref, "clean": clean, "dist": clean, "attacked": torch.tensor(attacked), "target": target}
    start = torch.full((len(attacked),), torch.nan)
    return TrainingBatch({**tensors, "start": start, "limits": torch.tensor([-40.0, 40.0])})


def inner_of(direction, which="both", steps=8):
    return Inner(PGD(steps=steps, step_size=EPS / 4), EPS, "linf", direction, which, seed=7)


@pytest.mark.parametrize("direction", ["up", "down", "random_sign", "error"])
def test_flagged_rows_alone_are_moved_as_far_as_a_linear_score_allows(direction):
    metric, batch = Linear(), batch_of([True, False, True, True, True, False])
    metric.train()
    attacked, spent = inner_of(direction)(metric, batch, list("abcdef"), step=4)
    rows = batch["attacked"]
    shift = (metric(ref=batch["ref"], dist=attacked["dist"]) - metric(ref=batch["ref"], dist=batch["clean"])).detach()
    assert torch.equal(attacked["dist"][~rows], batch["clean"][~rows])
    assert float((attacked["dist"] - batch["clean"]).abs().max()) <= EPS + 1e-6
    assert not attacked["dist"].requires_grad
    assert shift[rows].abs() == pytest.approx(metric.reach, rel=1e-4)
    quality = metric(ref=batch["ref"], dist=batch["clean"]).detach()
    expected = {"up": torch.ones(6), "down": -torch.ones(6), "error": (quality - batch["target"]).sign()}
    if direction == "random_sign":
        signs = [set(_signs(metric, batch, step)[rows].tolist()) for step in range(8)]
        assert set().union(*signs) == {-1.0, 1.0}
        assert {-1.0, 1.0} in signs, "a coin for each image, not one for the batch"
    else:
        assert torch.equal(shift[rows].sign(), expected[direction][rows])
    assert (spent.forwards, spent.backwards) == (4 * 8 + 4 * (direction == "error"), 4 * 8)
    assert bool(attacked["start"][rows].isnan().all()) == (direction == "error")
    assert all(parameter.grad is None for parameter in metric.parameters())


def _signs(metric, batch, step):
    attacked, _ = inner_of("random_sign", steps=1)(metric, batch, list("abcdef"), step)
    return (metric(ref=batch["ref"], dist=attacked["dist"] - batch["clean"])).sign()


@pytest.mark.parametrize("which", ["both", "p0"])
def test_of_triplets_the_rejected_patch_is_raised_and_the_preferred_one_lowered(which):
    metric, pairs = Linear(), batch_of([True, True, True, False])
    judge = torch.tensor([0.9, 0.2, 0.5, 0.9])
    parts = {"p0": pairs["clean"], "p1": pairs["ref"], "clean_p0": pairs["clean"], "clean_p1": pairs["ref"]}
    batch = TrainingBatch({"ref": pairs["ref"], "judge": judge, "attacked": pairs["attacked"], **parts})
    attacked, _ = inner_of(None, which)(metric, batch, list("abcd"), 0)
    shift = {part: metric(ref=batch["ref"], dist=attacked[part] - parts[part]).detach() for part in ("p0", "p1")}
    reach = metric.reach * torch.tensor([1.0, -1.0, 0.0, 0.0])  # a judge split evenly prefers none
    assert shift["p0"].tolist() == pytest.approx(reach.tolist(), rel=1e-4, abs=1e-5)
    assert shift["p1"].tolist() == pytest.approx((-reach * (which == "both")).tolist(), rel=1e-4, abs=1e-5)


ADVERSARIAL = f"{INNER}\nrobust: {{limit: 6, steps: 2}}\nema: 0.5\n"


@pytest.mark.parametrize("name", ["vanilla", "aat"])
def test_a_killed_adversarial_training_ends_with_the_same_bytes(recipe, plugins, tmp_path, killed_at, name):
    attacked, distinct = {"vanilla": (6, 16), "aat": (3, 10)}[name]  # of two references of eight strengths
    adversarial = f"recipe: {{name: {name}{', anchors: 3, top: 2' if name == 'aat' else ''}}}\n{ADVERSARIAL}"

    def written(name):
        path = recipe(name)
        path.write_text(path.read_text().replace("recipe: {name: clean, warm: 0.3}\n", adversarial))
        return path

    whole = train(written("whole"), tmp_path / "run-whole", plugins=plugins)
    killed_at("", 5)
    with pytest.raises(KeyboardInterrupt):
        train(written("resumed"), tmp_path / "run-resumed", plugins=plugins)
    assert len(_steps(tmp_path / "run-resumed")) == 5  # step 4 was logged and is not in the checkpoint
    resumed = train(written("resumed"), tmp_path / "run-resumed", plugins=plugins)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.histories == whole.histories
    logs = [_steps(tmp_path / run) for run in ("run-whole", "run-resumed")]
    assert logs[0] == logs[1]
    assert [entry["step"] for entry in logs[0]] == list(range(6))
    assert logs[0][0]["figures"].keys() >= {"mse", "plcc"}
    assert (logs[0][0]["forwards"], logs[0][0]["backwards"]) == (attacked * 3 + 6, attacked * 3 + 6)
    point = whole.histories[0][-1]
    assert point.shift_up > 0 > point.shift_down
    assert 0 <= point.pair <= 1
    for name in ("whole", "resumed"):
        cost = json.loads((tmp_path / name / "manifest.json").read_text())["weights"]["cost"]
        assert cost["forwards"] == sum(line["forwards"] for line in logs[0])
        assert (cost["attacked"], cost["clean"]) == (6 * attacked, 36 - 6 * attacked)
        assert cost["distinct"] == distinct
    windows = [load_file(tmp_path / run / "checkpoint.safetensors")["window"] for run in ("run-whole", "run-resumed")]
    assert len(windows[0]) == 6
    assert torch.equal(*windows)
    kept, last = load_file(whole.weights), load_file(tmp_path / "run-whole" / "checkpoint.safetensors")
    assert not torch.equal(kept["heads.weight"], last["metric.heads.weight"])
    assert any(torch.equal(kept["heads.weight"], last[key]) for key in ("best.heads.weight", "average.heads.weight"))


def _steps(folder):
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("attack_s", "step_s")} for line in lines]


def test_robust_validation_takes_any_radius(recipe, plugins, tmp_path):
    path = recipe("wide")
    wide = "inner: {name: pgd, norm: l2, eps: 3, l2_step: 0.5}\nrobust: {limit: 4, steps: 2}\n"
    path.write_text(path.read_text().replace("recipe: {name: clean, warm: 0.3}\n", f"recipe: vanilla\n{wide}"))
    assert preview(path, tmp_path / "run", plugins=plugins).steps == 6


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("robust: true\n", "a mapping such as {limit: 48, steps: 5}"),
        ("recipe: vanilla\ninner: {name: pgd, eps: 2}\nkeep: last\n", "at most 1 in linf, got 2"),
        ("recipe: vanilla\nkeep: last\n", "no section `inner`"),
        (f"recipe: clean\n{INNER}\nkeep: last\n", "attacks no image"),
        (f"recipe: vanilla\n{INNER}\n", "keep: last"),
        ("recipe: vanilla\ninner: square\nkeep: last\n", "spends queries"),
        ("recipe: vanilla\ninner: autoattack\nkeep: last\n", "spends queries"),
        ("recipe: vanilla\ninner: facpa\nkeep: last\n", "learns from a whole split"),
        ("recipe: vanilla\ninner: restore\nkeep: last\n", "is a control"),
        ("recipe: vanilla\ninner: {name: cw, norm: l2}\nkeep: last\n", "works in linf"),
        ("recipe: vanilla\ninner: {name: pgd, which: p0}\nkeep: last\n", "`which` is for triplets"),
        ("recipe: vanilla\ninner: {name: pgd, eps: 0}\nkeep: last\n", "greater than 0"),
        ("recipe: vanilla\ninner: {name: pgd, step: 3}\nkeep: last\n", "no parameter 'step'"),
        ("recipe: vanilla\ninner: pgdd\nkeep: last\n", "Did you mean 'pgd'"),
        (f"recipe: vanilla\n{INNER}\nrobust: {{limits: 3}}\n", "Did you mean 'limit'"),
        ("recipe: vanilla\ninner: pgd\nkeep: last\nema: 1\n", "less than 1"),
        ("recipe: {name: penalised, distance: psnr}\ninner: pgd\nkeep: last\n", "no distance. Take ssim"),
        ("recipe: {name: penalised, distance: ms_ssim}\ninner: pgd\nkeep: last\ncrop: 16\n", "161 px that 'ms_ssim'"),
    ],
)
def test_what_cannot_be_trained_against_is_told_before_a_step(recipe, plugins, tmp_path, lines, message):
    path = recipe("bad")
    path.write_text(path.read_text().replace("recipe: {name: clean, warm: 0.3}\n", lines))
    with pytest.raises(UserError) as caught:
        train(path, tmp_path / "run", plugins=plugins)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_a_recipe_says_of_the_data_is_heard(recipe, plugins, tmp_path, monkeypatch, capfd):
    from defenses.recipes.clean import Clean

    monkeypatch.setattr(Clean, "check", lambda self, entries: [f"{len(entries)} images seen"])
    train(recipe("told"), tmp_path / "run", plugins=plugins)
    assert "16 images seen" in capfd.readouterr().err

    def refuse(self, entries):
        raise ValueError("16 images are too few. Take more.")

    monkeypatch.setattr(Clean, "check", refuse)
    with pytest.raises(UserError, match="split 'train': 16 images are too few"):
        train(recipe("refused"), tmp_path / "other", plugins=plugins)


def test_a_recipe_that_breaks_its_contract_is_named(recipe, plugins, tmp_path, monkeypatch):
    from defenses.recipes.clean import Clean

    loss, batches = Clean.loss, Clean.batches
    monkeypatch.setattr(Clean, "loss", lambda *given: (loss(*given)[0], {"mse": 0.5}))
    with pytest.raises(UserError, match=r"recipe 'clean': mse is a float\. Return a tensor without axes"):
        train(recipe("floats"), tmp_path / "floats", plugins=plugins)
    monkeypatch.setattr(Clean, "loss", loss)
    monkeypatch.setattr(Clean, "batches", lambda *given: ((rows, [True] * 6) for rows, _ in batches(*given)))
    with pytest.raises(UserError, match="flags rows to attack and does not say `attacks = True`"):
        train(recipe("flags"), tmp_path / "flags", plugins=plugins)


def test_what_cannot_be_stops_the_training_as_a_bug(recipe, plugins, tmp_path, monkeypatch):
    from defenses.recipes.clean import Clean

    def impossible(self, metric, batch):
        raise ContradictionError("an error of 2 where the bound is 1")

    monkeypatch.setattr(Clean, "loss", impossible)
    with pytest.raises(UserError, match=r"step 0: an error of 2 .* is a bug"):
        train(recipe("impossible"), tmp_path / "run", plugins=plugins)


def test_the_spread_of_a_window_is_numpys_and_its_alarm_goes_off_once():
    rng, spread = np.random.default_rng(0), Spread()
    said, labels, heard = [], [], []
    for step in range(60):
        scale = 1.0 if step < 30 else 0.01
        label = rng.normal(3, 1, 16)
        answers = [torch.tensor(2 + scale * rng.normal(0, 0.5, 8)) for _ in range(2)]
        said.append(torch.cat(answers).numpy())
        labels.append(label)
        ratio = float(spread.hear(answers, torch.tensor(label)))
        if spread.judge(ratio, step):
            heard.append(step)
        if step >= 19:
            window = slice(step - 19, step + 1)
            assert ratio == pytest.approx(np.std(said[window]) / np.std(labels[window]), rel=1e-9)
        else:
            assert np.isnan(ratio)
    assert len(heard) == 1
    assert 30 < heard[0] < 50
    assert not Spread(armed=False).judge(0.0, 7)
    other = Spread()
    other.restore(spread.state(), spread.armed, spread.alarm, torch.device("cpu"))
    more = ([torch.ones(4)], torch.arange(4.0))
    assert torch.equal(other.hear(*more), spread.hear(*more))


def test_a_collapse_is_told_as_it_happens_and_stays_in_the_records(recipe, plugins, tmp_path, monkeypatch, capfd):
    from defenses.recipes.clean import Clean

    def shrink(self, metric, batch):
        return metric(ref=batch["ref"], dist=batch["dist"]).var(), {}

    monkeypatch.setattr(Clean, "loss", shrink)
    path = recipe("shrunk")
    text = path.read_text().replace("steps: 6", "steps: 80")
    path.write_text(text.replace("learning_rate: 0.003", "learning_rate: 0.1"))
    result = train(path, tmp_path / "run", plugins=plugins)
    (member,) = result.summary["members"]
    assert 20 <= member["collapse_alarm"] < 80
    said = capfd.readouterr().err
    assert f"COLLAPSE at step {member['collapse_alarm']}" in said
    assert said.index("COLLAPSE at step") < said.index("step 80/80")
    entry = json.loads((tmp_path / "shrunk" / "manifest.json").read_text())["weights"]
    assert entry["collapse_alarm"] == {"step": member["collapse_alarm"]}


def test_the_step_log_is_cut_back_to_the_checkpoint(tmp_path):
    lines = [Step(i, 1.0, {}, float("nan"), 1, 1, 0.0, 0.0, 1.0) for i in range(5)]
    with StepLog(tmp_path, 0) as log:
        for line in lines:
            log.add(line)
    path = tmp_path / "steps.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')  # killed while writing
    with StepLog(tmp_path, 3) as log:
        log.add(lines[3])
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert json.loads(path.read_text().splitlines()[0])["gradient_norm"] is None


def test_robust_validation_is_the_closed_form_of_a_linear_score(recipe, tmp_path):
    metric, rng = Linear(side=12), np.random.default_rng(1)
    entries = [Entry(f"e{i}", "r", opinion=float(o)) for i, o in enumerate(rng.permutation(40) / 39)]
    pixels = {e.id: torch.tensor(0.3 + 0.4 * rng.random((2, 3, 16, 16)), dtype=torch.float32) for e in entries}

    class Images:
        def item(self, entry):
            return pixels[entry.id]

    file = read_recipe(recipe("robust", "crop: 12\n"))
    use = RobustUse(limit=20, steps=8)
    found, spent = RobustValidation(use, file, entries, Images(), Registry(), torch.device("cpu"))(metric)
    chosen = stratified(entries, 20)
    assert [round(39 * e.opinion) for e in chosen] == list(range(1, 40, 2))  # evenly spread over the labels
    with torch.no_grad():
        clean = np.array([float(metric.score(None, pixels[e.id][1:, :, 2:14, 2:14])) for e in chosen], np.float64)
    assert found.shift_up == pytest.approx(metric.reach / clean.std(), rel=1e-4)
    assert found.shift_down == pytest.approx(-metric.reach / clean.std(), rel=1e-4)
    opinion = np.array([e.opinion for e in chosen])
    pairs = [(i, j) for i in range(20) for j in range(20) if opinion[i] > opinion[j]]
    right = np.mean([clean[i] - metric.reach > clean[j] + metric.reach for i, j in pairs])
    assert found.pair == pytest.approx(right)
    assert spent.backwards == 2 * 20 * 8
