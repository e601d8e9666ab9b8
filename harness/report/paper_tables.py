"""Tables 1, 5 and 10 of the paper from what is here: the data sets, the features and the recipes, beside the printed.

Each is a frame with a row per row of the paper: what is printed, what is here, and what to know where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from harness.datasets.catalogue import CATALOGUE
from harness.datasets.table_file import TableRow, read_table
from harness.errors import DataError
from harness.files import shown
from harness.plugins.registry import Registry
from harness.wording import MISSING, budget_text

FEATURE_KEYS: Mapping[str, str] = {
    "SSIM": "ssim",
    "Informational Map": "info",
    "Color Difference": "color",
    "LBP": "lbp",
    "Gabor Filters": "gabor",
    "Wavelet Transform": "wavelet",
    "Entropy Map": "entropy",
    "Edge Map": "edge",
    "Detail Loss Measure (DLM)": "dlm",
    "VIF": "vif",
    "Saliency": "saliency",
}
"""Feature as Table 5 calls it -> as `features:` of the metric birqa does."""
_FEATURES_DIFFER = {
    "info": "Section 3.1 says variance and Table 5 gradient magnitude: variance here, the other with `info: gradient`",
    "lbp": "codes and their differing bits as maps, no histogram",
    "vif": "in the pixel domain, by local moments; no Gaussian scale mixtures of wavelet coefficients",
    "saliency": "spectral residual: the paper's network is not named",
}
_DATASETS_DIFFER = {
    "pipal": "23,200 is 200 x 116: the public references; 250 belong to the whole set, of which 50 are not public",
    "pieapp": "20,280 images are compared in pairs (`pieapp_2afc`); scores of single images there are for 600 of 40",
}


class DescribedFeature(Protocol):
    """What is asked of a feature of BiRQA."""

    @property
    def maps(self) -> int:
        """Channels."""

    @property
    def source(self) -> str:
        """What it is and where it is from."""


def datasets_table(printed: Path, registry: Registry) -> pd.DataFrame:
    """Table 1 from the catalogue and the classes of the data sets.

    Args:
        printed: `suites/paper/published/table1_datasets.csv`.
        registry: Where data sets are found.

    Returns:
        A row per data set of the paper: `dataset`, `name` in suites; `resolution`, `references`, `images` and `ratings`
        here and as `printed_...`; `described`, what its class says of itself; `differs`, where it does.

    Raises:
        DataError: The file cannot be read, or names a data set that is not here.
    """
    rows = []
    columns = {"resolution": "resolution", "references": "reference_images", "images": "distorted_images"}
    columns |= {"ratings": "ratings"}
    for row in _read(printed, ("dataset", *columns.values())):
        name = row.text("dataset").lower().replace("-", "")
        if name not in CATALOGUE:
            raise DataError(f"{row.where}: there is no data set '{row.text('dataset')}' here. Take the row out.")
        known = CATALOGUE[name]
        here = {column: str(getattr(known, column)).replace(" x ", "x") for column in columns}
        said = {column: row.text(of) for column, of in columns.items()}
        differing = [column for column in columns if _plain(here[column]) != _plain(said[column])]
        why = _DATASETS_DIFFER.get(name, f"printed: {', '.join(said[column] for column in differing)}")
        rows.append(
            {
                **{"dataset": row.text("dataset"), "name": name, **here},
                **{f"printed_{column}": text for column, text in said.items()},
                **{"described": _first_sentence(registry.dataset(name).described({}))},
                **{"differs": why if differing else ""},
            }
        )
    return pd.DataFrame(rows)


def features_table(printed: Path, features: Mapping[str, DescribedFeature]) -> pd.DataFrame:
    """Table 5 from the features themselves.

    Args:
        printed: `suites/paper/published/table5_features.csv`.
        features: `metrics_zoo.birqa.features.FEATURES`.

    Returns:
        A row per feature: `feature`, `key` in `features:` of birqa, `description` as printed, `here`, how it is
        computed, its number of `maps`, and `differs`, where that is not what is printed.

    Raises:
        DataError: The file cannot be read, or has a feature that is not here.
    """
    rows = []
    for row in _read(printed, ("feature", "description")):
        key = FEATURE_KEYS.get(row.text("feature"), "")
        if key not in features:
            raise DataError(f"{row.where}: there is no feature '{row.text('feature')}' here. Take the row out.")
        feature = features[key]
        found = {"feature": row.text("feature"), "key": key, "description": row.text("description")}
        rows.append(found | {"here": feature.source, "maps": feature.maps, "differs": _FEATURES_DIFFER.get(key, "")})
    return pd.DataFrame(rows)


_Settings = Mapping[str, Any]
"""What `harness.training.settings.settings_of` says of a recipe file."""
_Written = Callable[[_Settings], str]

_ON: Mapping[str, str] = {"anchors": "the anchors", "all": "all images"}
_PARAMETERS: Mapping[tuple[str, str], tuple[_Written, str]] = {
    ("clean", "Optimizer"): (lambda s: s["optimiser"], ""),
    ("clean", "Adam (beta_1, beta_2)"): (lambda s: "/".join(f"{beta:g}" for beta in s["betas"]), ""),
    ("clean", "Batch size"): (lambda s: f"{s['batch']}", ""),
    ("clean", "Epochs"): (
        lambda s: f"{s['steps']} steps",
        "read as steps, a batch each: 2,500 passes over KADID-10k do not fit the 105 minutes of Table 3",
    ),
    ("clean", "Learning rate"): (lambda s: f"{s['learning_rate']:g}", ""),
    ("clean", "Loss function"): (
        lambda s: f"alpha_1 MSE - (1 - alpha_1) PLCC, after {s['recipe']['warm']:.0%} of the steps on the MSE alone",
        "from a cold start the gradient of the PLCC shrinks predictions to a constant",
    ),
    ("clean", "alpha_1"): (lambda s: f"{s['recipe']['alpha']:g}", ""),
    ("aat", "Inner attacker"): (lambda s: f"{s['inner']['name'].upper()}-{s['inner']['steps']}", ""),
    ("aat", "PGD step size"): (lambda s: budget_text("linf", s["inner"]["step_size"]), ""),
    ("aat", "PGD norm type"): (lambda s: s["inner"]["norm"], ""),
    ("aat", "Perturbation budget eps, train"): (lambda s: budget_text(s["inner"]["norm"], s["inner"]["eps"]), ""),
    ("aat", "Perturbation budget eps, test"): (lambda s: MISSING, "no part of a training: `budgets` of a suite"),
    ("aat", "Anchor spacing lambda"): (
        lambda s: (
            f"{s['recipe']['anchors']} anchors at {s['recipe']['places']} places of a band of "
            f"{s['recipe']['band']:g} of the labels"
        ),
        "lambda stands in Table 10 alone; Section 4.1 places |S| anchors in a band of R, and so does this",
    ),
    ("aat", "AAT loss"): (
        lambda s: f"alpha_2 L_anchor + (1 - alpha_2) L_clean, L_clean on {_ON[s['recipe']['regress']]}",
        "Section 4.1: L is what drives the error of the anchors",
    ),
    ("aat", "alpha_2"): (lambda s: f"{s['recipe']['hinge']:g}", ""),
}
"""Part and parameter as printed -> how the settings of a recipe file say it, and why where that is not the same."""
_SILENT = (
    "steps",
    "schedule",
    "crop",
    "flip",
    "gradient_clip",
    "label_scale",
    "link",
    "ema",
    "keep",
    "seeds",
    "resplit",
)
"""Keys of a recipe file that decide a training and of which the paper says nothing in Table 10."""


def parameters_table(printed: Path, settings: Mapping[str, _Settings]) -> pd.DataFrame:
    """Table 10 from recipe files.

    Args:
        printed: `suites/paper/published/table10_parameters.csv`.
        settings: Part, "clean" or "aat" -> what `settings_of` says of its recipe file.

    Returns:
        A row per parameter: `part`, `parameter`, `printed`, `here`, and `differs`, why where the two do. What the
        paper is silent on follows, with an empty `printed` and the key of the recipe file as `parameter`.

    Raises:
        DataError: The file cannot be read, has a parameter that nothing is known of, or a recipe file lacks what it
            asks for, such as an inner attack.
    """
    rows = []
    for row in _read(printed, ("part", "parameter", "value")):
        part, parameter, value = (row.text(column) for column in ("part", "parameter", "value"))
        if (part, parameter) not in _PARAMETERS or part not in settings:
            raise DataError(f"{row.where}: nothing is known of '{parameter}' of '{part}'. Take the row out.")
        written, why = _PARAMETERS[part, parameter]
        try:
            here = written(settings[part])
        except (KeyError, TypeError):
            raise DataError(
                f"the recipe file of '{part}' has nothing for '{parameter}' ({row.where}). Give one of its kind, such "
                "as suites/train/paper/birqa_kadid10k.yaml and suites/train/defenses/birqa_aat.yaml."
            ) from None
        differs = "" if _plain(here) == _plain(value) else why or f"the paper has {value}"
        rows.append({"part": part, "parameter": parameter, "printed": value, "here": here, "differs": differs})
    rows += [
        {"part": part, "parameter": key, "printed": "", "here": _told(values[key]), "differs": ""}
        for part, values in settings.items()
        for key in _SILENT
        if (part, key) != ("clean", "steps")
    ]
    return pd.DataFrame(rows)


def _read(path: Path, columns: Sequence[str]) -> Sequence[TableRow]:
    table = read_table(path, columns)
    if lacking := [column for column in columns if column not in table.columns]:
        raise DataError(f"{shown(path)} lacks the column {', '.join(lacking)}. Restore the file.")
    return table.rows


def _plain(text: str) -> str | float:
    """What two spellings of one value have in common: 10,125 and 10125, 1e-4 and 0.0001."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


def _told(value: Any) -> str:
    """A value of a recipe file for people."""
    if value is None:
        return "none"
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(";")
