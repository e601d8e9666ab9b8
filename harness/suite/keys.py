"""The keys of a suite file and their types, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import pydantic

from harness.rng import HIGHEST_SEED
from harness.suite.layout_names import NAME
from harness.suite.model import OPINIONS
from harness.suite.strict_yaml import MOST_PROBLEMS, Problem, YamlPath
from harness.suite.tables import table_sources
from harness.wording import did_you_mean, quoted

DIRECTIONS = ("up", "down", "mos_split", "self_split", "random_sign", "error")
CHAIN = "chain"
"""What an entry of `defenses` is named that is a list of others."""
EVERY_PAIR = "all"
"""What `transfer` says in place of a list for every ordered pair of metrics."""
PIXELS = ("sampled", "all", "names")
"""What `pixels` says of a data set; the first is the default."""
_LABEL = r"^([^/\\]*[0-9]/[0-9])*[^/\\]*$"
"""No slash but in fractions."""
LONGEST_LABEL = 120
"""Characters of a label; a longer one leaves no room beside it in any table, on a screen or in print."""
SeedNumber = Annotated[int, pydantic.Field(ge=0, le=HIGHEST_SEED)]
"""A seed, wherever a file or an option gives one."""

DIRECTIONS_EXPLAINED: Mapping[str, str] = {
    "up": "Raise the quality of every image.",
    "down": "Lower the quality of every image.",
    "mos_split": "Raise images whose opinion is at or below the mean of the whole split (before any limit), lower "
    "those above it. Needs opinions.",
    "self_split": "Raise images whose own clean quality is at or below the metric's median on the calibration samples "
    "of the evaluated split, lower those above it. Needs no opinions.",
    "random_sign": "Raise or lower each image by a fair coin of its own, from the seed and its name.",
    "error": "Take each image's predicted opinion away from its opinion: an attack of its own, on |Q̂ − y|, where Q̂ is "
    "the least-squares line from the metric's quality to the opinions on the calibration samples. Needs opinions.",
}
"""Every direction in words, for the suite reference."""
ENTRY_KEYS: Mapping[str, Mapping[str, str]] = {
    "datasets": {
        "split": "Split to evaluate. Default: `test` where the data set has one, otherwise its first split.",
        "pixels": "Whether the contents of image files are part of identity. `sampled`: those of 64 fixed files of a "
        "split, and of any file that was changed since the run folder recorded it; a file is read again only where its "
        "size, times or inode are not those recorded. `all`: those of every file of the split, read anew each time. "
        "`names`: none; a file of another size is seen, other pixels are not. `robustiqa data verify` reads all and "
        "compares them with what a run folder recorded. Default: `sampled`, but "
        "`names` for a data set that does not say which files it reads.",
    },
    "metrics": {
        "weights": "Weights to load: a name in the manifest, a path ending in `.safetensors`, a folder of published "
        "files, or `random` for untrained ones on purpose. Default: those the metric is registered with. "
        "Refused for a metric without weights. The sha256 of the file decides identity, not its name. A "
        "relative path is relative to the suite file or, where nothing is there, to the current folder. With "
        "`splits`, `{split}` in it stands for the split's number; a list has one for each split.",
    },
    "defenses": {
        "chain": "In place of a name: a list of names and mappings, applied in order to both images. Weights of a "
        "training may only stand first. A plain list in place of the entry says this alone. Default label: "
        "`jpeg+flip`.",
        "weights": "Of a purifier with a network: as of a metric. Of a trained defense: a mapping of metric labels to "
        "files, or a folder in which `LABEL@NAME.safetensors`, then `METRIC@NAME.safetensors` is looked for; by "
        "default the entry `METRIC@NAME` of the weights manifest. With this key any name will do. A metric that has "
        "none is refused unless `exclude` leaves it out. The sha256 decides identity, not the name.",
        "threat": "`oblivious`: attacked without the defense, scored with it; no claim of robustness. `adaptive`: "
        "attacked through it. Under purifiers an oblivious attacker knows the trained weights. "
        "Default: `oblivious` with purifiers, `adaptive` for trained weights alone.",
        "eot": "With `threat: adaptive` only: fresh draws of a randomised defense averaged at every evaluation of an "
        "attack. Default: 20 for a randomised defense, 1 for a deterministic one.",
        "draws": "Fresh draws of a randomised defense on which each result is scored; tables print their mean, "
        "their spread and the worst of them. Default: 1, which shows neither.",
    },
    "attacks": {
        "floor": "Of a white-box attack: `restore` keeps, image by image, the better of result and the ball's point "
        "nearest to the reference, which an attacker who knows the reference has for nothing; tables name it. "
        "`none` leaves the attack as its paper has it. Default: `none`.",
    },
}
"""Keys an entry may have beside `name`, `label` and its plugin's parameters, by the list it stands in."""
COMPOSING_KEYS: Mapping[str, str] = {
    "extends": "At the top of a file: path of a suite to build on, relative to this file. Mappings merge key by key; "
    "lists and single values replace what the other suite says. That suite may extend another.",
    "matrix": "In an entry of `datasets`, `metrics`, `defenses` or `attacks`: parameter -> list of values. The entry "
    "becomes one entry for every combination, at most 10,000. `name` and `label` cannot be varied, and an entry that "
    "becomes several cannot have a label: each gets its own, such as `pgd(steps=5)`.",
}
"""Keys that are resolved before the file is checked against `SuiteFile`."""


_Label = Annotated[str, pydantic.Field(pattern=_LABEL, min_length=1, max_length=LONGEST_LABEL)]


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)
    name: str = pydantic.Field(
        description="Registered name of the plugin. A bare name in place of a mapping says this alone."
    )
    label: _Label | None = pydantic.Field(
        default=None,
        description="What tables, `transfer`, `exclude`, `--set` and `--only` call the entry. Default: the name with "
        "the parameters that differ from their defaults, such as `pgd(steps=5, step_size=1/255)`. No slash but in "
        "fractions. No part of identity.",
    )


class _Transfer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    source: str = pydantic.Field(description="Label of the metric that is attacked.")
    scorer: str = pydantic.Field(description="Label of the metric that scores the attacked images.")


class _Contrast(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    a: str = pydantic.Field(description="Label of a metric, or `LABEL@DEFENSE` for it under one of the defenses.")
    b: str = pydantic.Field(description="Another; the difference is a minus b.")


class _Exclusion(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    dataset: str | None = pydantic.Field(default=None, description="Shell pattern on the data set's label.")
    metric: str | None = pydantic.Field(
        default=None, description="Shell pattern on the label of the attacked or of the scoring metric."
    )
    defense: str | None = pydantic.Field(default=None, description="Shell pattern on the defense's label.")
    attack: str | None = pydantic.Field(default=None, description="Shell pattern on the attack's label.")
    norm: str | None = pydantic.Field(default=None, description="Shell pattern on the budget's norm.")
    eps: Annotated[float, pydantic.Field(gt=0)] | None = pydantic.Field(
        default=None, description="Radius of the budget, equal up to rounding."
    )

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError(f"should give at least one of {', '.join(type(self).model_fields)}")
        return self


def as_entry(value: Any) -> Any:
    """A bare name as an entry."""
    return {"name": value} if isinstance(value, str) else value


def as_defense(value: Any) -> Any:
    """A bare name, a list of what is applied in order, or a mapping of such a list, as an entry with a name."""
    if isinstance(value, list):
        return {"name": CHAIN, "chain": value}
    if isinstance(value, dict) and "chain" in value and "name" not in value:
        return {"name": CHAIN, **value}
    return as_entry(value)


def _pairs_listed(value: Any) -> Any:
    """Every pair is looked up once the metrics are known."""
    return [] if value == EVERY_PAIR else value


def _verdicts_asked(value: Any) -> Any:
    """One message for a value of the wrong type, where a union would give one for each of its types."""
    if not isinstance(value, int) or (not isinstance(value, bool) and value < 1):
        raise ValueError("should be true, false, or a number of samples of at least 1")
    return value


def _layout_listed(value: Any) -> Any:
    """One message for what is neither; what a mapping holds is read by `harness.suite.layout_file`."""
    if not isinstance(value, str | dict):
        raise ValueError("should be the name of a layout file, or a layout: a mapping with name, rows and columns")
    return value


_Layout = Annotated[
    Any,
    pydantic.BeforeValidator(_layout_listed),
    pydantic.WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
]
_Entries = list[Annotated[_Entry, pydantic.BeforeValidator(as_entry)]]
_Defenses = list[Annotated[_Entry, pydantic.BeforeValidator(as_defense)]]
_Budgets = Annotated[list[Annotated[float, pydantic.Field(gt=0)]], pydantic.Field(min_length=1)]


class _IrScore(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    mapping: Literal["quantile", "emd", "weak", "neural", "neural_weak", "none"] = pydantic.Field(
        default="quantile",
        description="How the qualities of each scorer are taken to one domain, fitted on its clean qualities on the "
        "train split. `quantile`: the monotone map, which is optimal for the squared distance; `emd`: the same from "
        "the plan of POT; `weak`: weak optimal transport by POT, little more than a shift where the domain is wider; "
        "`neural`, `neural_weak`: the same two learnt by neural optimal transport, some seconds a scorer. "
        "`none`: only scaled.",
    )
    reference: str = pydantic.Field(
        default=OPINIONS,
        description="The domain: `opinions` of the train split, or the label of one of the metrics, without defense.",
    )
    scaler: Literal["train", "test"] = pydantic.Field(
        default="train", description="Whose mapped clean scores fill [0, 1]: the train split's, or the evaluated ones'."
    )
    rule: Literal["trapezoid", "mean"] = pydantic.Field(
        default="trapezoid", description="How budgets are weighed: by their distances, or all alike."
    )
    direction: Literal[DIRECTIONS] = pydantic.Field(  # type: ignore[valid-type]
        default="up", description="Which way images are attacked; it has to be one of `directions`, or be made of them."
    )
    paper_dashes: bool = pydantic.Field(
        default=False, description="Print rows without a defense as dashes, as the paper's Table 3 has them."
    )


class _Resources(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    cpus: Annotated[float, pydantic.Field(gt=0)] = pydantic.Field(
        default=1.0, description="Cores that the cluster sets aside for each worker, which computes on one thread."
    )
    gpus: Annotated[float, pydantic.Field(ge=0)] | None = pydantic.Field(
        default=None,
        description="GPUs of each worker; `0.5` lets two share one. Default: 1 where the device is a GPU, else 0.",
    )
    memory: Annotated[float, pydantic.Field(ge=0)] = pydantic.Field(
        default=0.0, description="GiB that the cluster sets aside for each worker; 0 for none."
    )


class SuiteFile(pydantic.BaseModel):
    """The keys of a suite file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    name: Annotated[str, pydantic.Field(pattern=NAME)] = pydantic.Field(
        description="Name of the suite, and of its run folder `results/runs/<name>` unless `--out` gives another."
    )
    seed: SeedNumber = pydantic.Field(
        default=0, description="Root of every random stream of the run and of the bootstrap. Part of identity."
    )
    datasets: Annotated[_Entries, pydantic.Field(min_length=1)] = pydantic.Field(
        description="Data sets to evaluate on, each a name or a mapping with a name."
    )
    metrics: Annotated[_Entries, pydantic.Field(min_length=1)] = pydantic.Field(
        description="Metrics to attack and to score with."
    )
    defenses: Annotated[_Defenses, pydantic.Field(min_length=1)] = pydantic.Field(
        default=[_Entry(name="base")],
        description="What every metric is defended by, one after the other: a purifier, the name of a training that "
        "gave the metrics other weights, or a list of these that are applied in order, such as `[aat, jpeg, flip]`. "
        "`base` is none and has no keys but `label`.",
    )
    attacks: _Entries = pydantic.Field(
        default=[],
        description="Attacks and controls to run. Clean scores are always measured; without attacks, "
        "they are all there is.",
    )
    budgets: dict[Literal["linf", "l2"], _Budgets] = pydantic.Field(
        default={},
        description="Norm -> radii, in units of images in [0, 1]: `{linf: [4/255, 8/255]}`. Needed where "
        "attacks are listed; every attack takes the budgets of the norms it works in. In `linf` a radius is at most 1; "
        "in `l2` it is the length of the whole change, such as 3.5 for 8/255 at every value of a 64 x 64 image.",
    )
    directions: Annotated[list[str], pydantic.Field(min_length=1)] = pydantic.Field(
        default=["up", "mos_split"], description="Which way images are attacked; see Directions."
    )
    splits: Annotated[int, pydantic.Field(ge=2)] | None = pydantic.Field(
        default=None,
        description="Evaluate so many splits by reference in one run: split i has the `split_seed` of each data set "
        "(0 unless given) plus i, and `{split}` in `weights` stands for i, from 0. `robustiqa train` with `seeds: n` "
        "and `resplit: true` writes such weights to `results/runs/train-NAME/seed-{split}/weights.safetensors`. "
        "Tables print mean ± standard deviation over splits; `tables/NAME_by_split.csv` has each. A split's records "
        "are those of a suite with that `split_seed` and those weights.",
    )
    which: Literal["both", "preferred_down", "rejected_up", "p0"] = pydantic.Field(
        default="both",
        description="Triplets only: the patches that are attacked. `both`: the one the judge rejected is raised and "
        "the one it preferred lowered. `preferred_down`, `rejected_up`: one of these alone. `p0`: the first patch "
        "alone, whichever way turns the judge's choice round.",
    )
    precision: Literal["fp32", "bf16"] = pydantic.Field(
        default="fp32",
        description="In which the images of a white-box attack are scored while it searches. Its result is compared "
        "with the start, and recorded, in fp32 whatever this says. Black-box attacks and fits stay in fp32.",
    )
    batch_budgets: bool = pydantic.Field(
        default=False,
        description="Attack a batch at all budgets of a norm at once: for networks and small images (64 px) a quarter "
        "to a third less time, for large images nothing; it takes as many times the memory. Part of identity, because "
        "a batch's size may change the last digits.",
    )
    tables: list[str] = pydantic.Field(
        default=[source.name for source in table_sources() if source.default],
        description="Tables to print, those that apply to the data set; see Tables. An empty list is the default.",
    )
    layouts: list[_Layout] = pydantic.Field(
        default=[],
        description="Tables as their author lays them out, written into `report/layouts/` beside the others: layouts, "
        "or names of files that hold some, relative to the suite. [Tables](tables.md) has their keys. No part of "
        "identity.",
    )
    ir_score: _IrScore = pydantic.Field(
        default=_IrScore(),
        description="How the table `ir_score` is made. Where it can be, the plan has clean cells on the split `train` "
        "for its maps. No part of identity.",
    )
    transfer: Annotated[list[_Transfer], pydantic.BeforeValidator(_pairs_listed)] = pydantic.Field(
        default=[],
        description="Attack one metric and score the images with another, both without a defense. `all` in place of a "
        "list is every ordered pair of metrics.",
    )
    contrasts: list[_Contrast] = pydantic.Field(
        default=[],
        description="The metrics whose SROCC the table `ranks` compares, such as `{a: ssim, b: psnr}`: the fewer "
        "questions are asked, the smaller the differences that can be told. Default: every two metrics, without "
        "defenses.",
    )
    adjust: Literal["holm", "bh"] = pydantic.Field(
        default="holm",
        description="How p-values are adjusted for the number of contrasts of a condition. `holm`: one false "
        "difference among all of them has a chance of 5 %. `bh` (Benjamini and Hochberg): of the differences found, "
        "5 % are false in the mean.",
    )
    margin: Annotated[float, pydantic.Field(ge=0, lt=1)] = pydantic.Field(
        default=0.0,
        description="Robust pair accuracy counts pairs whose opinions, in [0, 1], differ by more than this: `0.1` "
        "leaves out pairs that people hardly tell apart. No part of identity.",
    )
    verdicts: Annotated[bool | int, pydantic.BeforeValidator(_verdicts_asked)] = pydantic.Field(
        default=True,
        description="Verdicts on gradient masking. `true`: those that the suite's own cells decide. A number n: cells "
        "are added that decide the others, on the first n samples of each split; `plan` lists them. `false`: none.",
    )
    exclude: list[_Exclusion] = pydantic.Field(
        default=[],
        description="Cells to leave out: those that match every key of one of these. Clean cells stay, "
        "unless an exclusion names no attack, norm and eps.",
    )
    resources: _Resources = pydantic.Field(
        default=_Resources(),
        description="With `--executor ray`: what the cluster gives each worker. No part of identity.",
    )
    cluster: dict[str, str] = pydantic.Field(
        default={},
        description="With `--executor ray`: name or label of a data set -> its folder on the nodes, where it is "
        "another one there: `{tid2013: /scratch/tid2013}`. A node's own `ROBUSTIQA_DATA_TID2013` goes before it. No "
        "part of identity.",
    )
    limit: Annotated[int, pydantic.Field(ge=1)] | None = pydantic.Field(
        default=None,
        description="Make tables from the first n samples of each split, in its fixed order. Whole slices "
        "are computed, so a sample's numbers do not depend on the limit, and raising it later runs only what is new.",
    )
    save_examples: Annotated[int, pydantic.Field(ge=0)] = pydantic.Field(
        default=0,
        description="Keep reference, distorted and attacked image of the first n samples of each split, for every "
        "attacked cell: as lossless 8-bit PNG, with their scores and a map of the perturbation. `robustiqa examples "
        "RUN` lists them. The few that a report's page shows are kept whatever this says.",
    )
    exact: bool = pydantic.Field(
        default=False,
        description="Of `save_examples`: keep the images as floats too, which `robustiqa rescore` needs to score the "
        "attacked ones as they were scored. Four times the room and more.",
    )
    slice: Annotated[int, pydantic.Field(ge=1, le=4096)] = pydantic.Field(
        default=8,
        description="Samples in a batch, and with the cell the unit of resume. Part of identity, because "
        "a batch's size may change the last digits.",
    )


def read_file(value: dict[str, Any]) -> tuple[SuiteFile | None, list[Problem]]:
    """The keys of a suite file in their types, or what is wrong with them."""
    problems = list(_too_wide(value.get("budgets")))
    try:
        file = SuiteFile.model_validate(value)
    except pydantic.ValidationError as error:
        return None, [*(_problem(e, value) for e in error.errors()[:MOST_PROBLEMS]), *problems]
    return (None if problems else file), problems


def _too_wide(budgets: Any) -> Iterator[Problem]:
    """Radii in linf above the range of images; in l2 only the size of an image says how far its corners are."""
    radii = budgets.get("linf") if isinstance(budgets, dict) else None
    for i, eps in enumerate(radii if isinstance(radii, list) else []):
        if isinstance(eps, int | float) and not isinstance(eps, bool) and eps > 1:
            yield Problem(("budgets", "linf", i), f"should be at most 1, got {quoted(eps)}.")


_PATTERNS = {
    NAME: "should be letters, digits, '.', '_' and '-' only, at most 80, starting with a letter or digit",
    _LABEL: "should be text without a slash, other than in a fraction such as 2/255",
}

_WRITTEN: Mapping[tuple[str, int], str] = {
    ("transfer", 2): "{source: METRIC, scorer: METRIC}",
    ("contrasts", 2): "{a: METRIC, b: METRIC}",
    ("exclude", 2): "a mapping, such as {metric: METRIC, attack: ATTACK}",
    ("ir_score", 1): "a mapping, such as {mapping: emd}",
    ("resources", 1): "a mapping, such as {gpus: 0.5}",
}
"""How a key (1), or each entry of it (2), is written that takes mappings without a name."""

_KNOWN_MESSAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda c: "should be text",
    "int_type": lambda c: "should be a whole number",
    "int_from_float": lambda c: "should be a whole number",
    "float_type": lambda c: "should be a number, such as 8/255 or 0.03",
    "bool_type": lambda c: "should be true or false",
    "list_type": lambda c: "should be a list: [a, b]",
    "dict_type": lambda c: "should be a mapping: {key: value}",
    "model_type": lambda c: "should be a name or a mapping with a name",
    "model_attributes_type": lambda c: "should be a name or a mapping with a name",
    "too_short": lambda c: "should not be empty",
    "string_too_short": lambda c: "should not be empty",
    "string_too_long": lambda c: f"should have at most {c['max_length']} characters",
    "greater_than": lambda c: f"should be above {_bound(c['gt'])}",
    "greater_than_equal": lambda c: f"should be at least {_bound(c['ge'])}",
    "less_than_equal": lambda c: f"should be at most {_bound(c['le'])}",
    "less_than": lambda c: f"should be below {_bound(c['lt'])}",
    "string_pattern_mismatch": lambda c: _PATTERNS.get(c["pattern"], f"should match {c['pattern']}"),
    "literal_error": lambda c: f"should be {c['expected']}",
}


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _problem(error: Any, value: Any) -> Problem:
    path: YamlPath = tuple(error["loc"])
    if path and path[-1] == "[key]":
        path = path[:-1]
        near = did_you_mean(str(path[-1]), ["linf", "l2"])
        return Problem(path, f"unknown key '{path[-1]}'.{near}", on_key=True)
    if error["type"] == "extra_forbidden":
        parts: Mapping[str, type[pydantic.BaseModel]] = {
            "exclude": _Exclusion,
            "contrasts": _Contrast,
            "ir_score": _IrScore,
            "resources": _Resources,
        }
        inner = parts.get(str(path[0]), _Transfer)
        known = [*SuiteFile.model_fields, "extends"] if len(path) == 1 else list(inner.model_fields)
        return Problem(path, f"unknown key '{path[-1]}'.{did_you_mean(str(path[-1]), known)}", on_key=True)
    written = _WRITTEN.get((str(path[0]), len(path))) if path else None
    if written and error["type"].startswith("model_"):
        return Problem(path, f"should be {written}, got {quoted(error['input'])}.")
    if error["type"] == "missing":
        return Problem(path[:-1], f"the key '{path[-1]}' is missing. Add it.")
    return Problem(path, f"{worded(error)}, got {quoted(error['input'])}.")


def worded(error: Any) -> str:
    """One of pydantic's errors in words: 'should be at least 1'."""
    worded = _KNOWN_MESSAGES.get(error["type"])
    if worded is not None:
        return worded(error.get("ctx", {}))
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]
