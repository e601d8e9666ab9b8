"""A data set, its triplets and two metrics that train in milliseconds."""

import pytest

PLUGINS = '''
import torch
from torch import nn
from harness.contracts import Dataset, Entry, Metric, register


class Noise(Dataset):
    """Noise of 8 strengths on random references; every third is val or test, or as folds or split_seed say."""

    labels = "proxy"
    splits = ("train", "val", "test")

    def __init__(
        self, *, references: int = 6, side: int = 16, shared: bool = False, equal: bool = False,
        folds: int | None = None, fold: int = 0, split_seed: int = 0,
    ) -> None:
        self.references, self.side, self.shared, self.equal = references, side, shared, equal
        self.parts, self.fold, self.split_seed = folds or 3, fold, split_seed

    def held(self, split):
        test = (self.fold + self.split_seed) % self.parts
        kinds = {test: "test", (test + 1) % self.parts: "val"}
        chosen = [r for r in range(self.references) if kinds.get(r % self.parts, "train") == split]
        return chosen + [self.references] * (self.shared and split != "test")

    def images(self, r, *strengths):
        generator = torch.Generator().manual_seed(r)
        ref = torch.rand(3, self.side, self.side, generator=generator) * 0.2 + 0.4
        noise = torch.randn(3, self.side, self.side, generator=generator)
        return ref, *((ref + 0.02 * int(k) * noise).clamp(0, 1) for k in strengths)

    def fingerprint(self):
        return f"noise-{self.references}"


@register("stripes")
class Stripes(Noise):
    """The opinion falls with the strength."""

    def entries(self, split):
        return [Entry(f"{r}/{k}", f"r{r}", opinion=0.5 if self.equal else 1 - k / 7) for r in self.held(split) for k in range(8)]

    def load(self, entry):
        r, k = map(int, entry.id.split("/"))
        return dict(zip(("ref", "dist"), self.images(r, k)))


@register("stripes_2afc")
class Stripes2AFC(Noise):
    """People prefer the weaker noise, mostly."""

    kind = "triplets"

    def entries(self, split):
        return [
            Entry(f"{r}/{a}/{b}", f"r{r}", judge=0.9 if b < a else 0.1)
            for r in self.held(split) for a in range(4) for b in range(4) if a != b
        ]

    def load(self, entry):
        return dict(zip(("ref", "p0", "p1"), self.images(*map(int, entry.id.split("/")))))


@register("constant")
class Constant(Metric):
    """Hardly ever leaves the middle of the scale."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(3.0))

    def score(self, reference, dist):
        return self.level + 1e-3 * dist.flatten(1).std(dim=1)


@register("distance")
class Distance(Metric):
    """Squared distance of features through batch normalisation and dropout, weighted by a head."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2))
        self.heads = nn.Linear(4, 1, bias=False)
        nn.init.ones_(self.heads.weight)

    def encode(self, ref):
        return self.trunk(ref)

    def score(self, reference, dist):
        return self.heads((self.trunk(dist) - reference).square().mean(dim=(2, 3))).squeeze(1)
'''

RECIPE = """
name: stripes
metric: {metric}
dataset: {{name: {dataset}}}
recipe: {{name: clean, warm: 0.3}}
steps: 6
batch: 6
learning_rate: 0.003
evaluate_every: 2
output: {output}
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "stripes_plugin.py"
    path.write_text(PLUGINS)
    return [path]


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe file whose weights go to a folder of its name, with lines added."""

    def write(name, extra="", metric="distance", dataset="stripes"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(metric=metric, dataset=dataset, output=tmp_path / name / "weights") + extra)
        return path

    return write


@pytest.fixture
def killed_at(monkeypatch):
    """Kill training at a step of a member."""
    from harness.training.trainer import Trainer

    one_step = Trainer.one_step

    def arm(member, step):
        def killed(self, indices, attacked):
            if self.member.name == member and self.step == step:
                monkeypatch.setattr(Trainer, "one_step", one_step)
                raise KeyboardInterrupt
            return one_step(self, indices, attacked)

        monkeypatch.setattr(Trainer, "one_step", killed)

    return arm
