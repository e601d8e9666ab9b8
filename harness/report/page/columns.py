"""What the columns of tables are: which way is better, their unit and meaning, for the heads of the page's tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Better = Literal["higher", "lower", ""]
"""Which values are better for the metric that is attacked; empty where none are."""


class Heading(NamedTuple):
    """What a column is."""

    title: str
    way: Better
    unit: str
    meaning: str

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return {"higher": "↑", "lower": "↓", "": ""}[self.way]

    @property
    def told(self) -> str:
        """All of it in words."""
        better = f"{self.way.capitalize()} is better." if self.way else ""
        unit = f"Unit: {self.unit}." if self.unit else ""
        return " ".join(part for part in (self.meaning, better, unit) if part)


_SIGMA = "standard deviations (σ) of the metric's clean scores"
_CORRELATION = "correlation, −1 to 1"
_SHARE = "share, 0 to 1"
_PER_IMAGE = "per image and direction"
_TEXT = ""

_COLUMNS: Mapping[str, Heading] = {
    "clean_srocc": Heading(
        "clean SROCC", "higher", _CORRELATION, "Rank correlation of unattacked quality with opinions."
    ),
    "srocc": Heading("SROCC", "higher", _CORRELATION, "Rank correlation of quality with opinions; under the attack."),
    "krocc": Heading("KROCC", "higher", _CORRELATION, "Kendall's rank correlation with opinions."),
    "plcc": Heading("PLCC", "higher", _CORRELATION, "Linear correlation with opinions, without a map."),
    "plcc4": Heading("PLCC, 4", "higher", _CORRELATION, "Linear correlation after a logistic map of 4 parameters."),
    "plcc5": Heading("PLCC, 5", "higher", _CORRELATION, "Linear correlation after a logistic map of 5 parameters."),
    "rmse4": Heading("RMSE, 4", "lower", "opinions in [0, 1]", "Error after a logistic map of 4 parameters."),
    "rmse5": Heading("RMSE, 5", "lower", "opinions in [0, 1]", "Error after a logistic map of 5 parameters."),
    "fit4": Heading("fit, 4", "", _TEXT, "How the fit of the map of 4 parameters ended."),
    "fit5": Heading("fit, 5", "", _TEXT, "How the fit of the map of 5 parameters ended."),
    "change": Heading("change", "higher", _CORRELATION, "Attacked less clean: 0 where nothing is lost."),
    "shift_over_sigma": Heading(
        "shift/σ", "lower", _SIGMA, "Mean movement of the score the attack's way; of a control positive is up."
    ),
    "shift_over_sigma_8bit": Heading(
        "shift/σ, 8 bit", "lower", _SIGMA, "The same of the image as 8-bit files have it."
    ),
    "restore_over_sigma": Heading("restore/σ", "", _SIGMA, "What restoring the reference alone does, the row's way."),
    "noise_over_sigma": Heading(
        "noise/σ", "", _SIGMA, "What random noise alone does; in rows of attacks the row's way."
    ),
    "excess_over_restore": Heading(
        "excess over restore", "lower", _SIGMA, "What the attack did beyond restoring the reference inside its ball."
    ),
    "excess_over_noise": Heading(
        "excess over noise", "lower", _SIGMA, "What the attack did beyond random noise of its size."
    ),
    "excess_over_own_control": Heading(
        "excess over own control",
        "lower",
        _SIGMA,
        "What the attack did beyond the honest control: restoring for images pushed up, noise for those pushed down.",
    ),
    "restore_state": Heading("restore's state", "", _TEXT, "Whether the control was run: ok, failed or missing."),
    "noise_state": Heading("noise's state", "", _TEXT, "Whether the control was run: ok, failed or missing."),
    "pair_state": Heading("pairs' state", "", _TEXT, "Whether both ends were attacked: ok, failed or missing."),
    "raw_shift": Heading("raw shift", "", "the metric's own quality", "Mean change of quality."),
    "start_share": Heading("start kept", "", _SHARE, "Images where nothing better than the unattacked one was found."),
    "forwards": Heading("forwards", "", _PER_IMAGE, "Evaluations of the metric."),
    "backwards": Heading("backwards", "", _PER_IMAGE, "Gradients of the metric."),
    "queries": Heading("queries", "", _PER_IMAGE, "Scores that a black-box attack asked for; each is a forward too."),
    "milliseconds": Heading("ms", "", f"milliseconds {_PER_IMAGE}", "Time of the attack on the machine that ran it."),
    "clean_accuracy": Heading("clean accuracy", "higher", _SHARE, "Pairs or triplets in the right order, unattacked."),
    "accuracy": Heading("accuracy", "higher", _SHARE, "Pairs or triplets in the right order under the attack."),
    "undecided": Heading("undecided", "", "triplets", "Triplets on which judges are split evenly."),
    "attacked": Heading("attacked", "", _TEXT, "Which images of a pair or triplet are attacked."),
    "kind": Heading("kind", "", _TEXT, "What the row is."),
    "subset": Heading(
        "subset", "", _TEXT, "Which triplets: all, one kind of distortion, or the mean over kinds (macro)."
    ),
    "r": Heading("R", "higher", "log10 of a ratio", "R-score: how little a score moved of what it could have."),
    "unmoved": Heading("unmoved", "", "images", "Images whose score did not move; R has an upper end for them."),
    "mean_r": Heading("IR", "higher", "log10 of a ratio", "R integrated over the budgets."),
    "relative_area": Heading(
        "relative area", "higher", "1 is all", "Of the movement over all budgets, what the defense took away."
    ),
    "absolute_gain": Heading("absolute gain", "lower", "clean scores fill [0, 1]", "Mean change of the scaled score."),
    "relative_gain": Heading(
        "relative gain", "lower", "relative to s + 1", "Mean relative change of the scaled score."
    ),
    "classic_relative_gain": Heading(
        "classic relative gain", "lower", "relative", "Mean change relative to the score."
    ),
    "wasserstein": Heading(
        "Wasserstein", "lower", "clean scores fill [0, 1]", "Distance of the scores, signed as the shift."
    ),
    "energy": Heading(
        "energy", "lower", "clean scores fill [0, 1]", "Energy distance of the scores, signed as the shift."
    ),
    "test": Heading("test", "", _TEXT, "L: stronger distortion scores lower. D: distorted scores below pristine."),
    "oracle_share": Heading("oracle", "", _SHARE, "The test with the opinions in place of a metric."),
    "clean_share": Heading("clean", "higher", _SHARE, "Pairs in the right order, unattacked; a tie counts half."),
    "share": Heading("share", "higher", _SHARE, "Pairs in the right order under the attack; a tie counts half."),
    "figure": Heading("figure", "", _TEXT, "Which figure the row is about."),
    "clean": Heading("clean", "higher", "as the figure", "The figure, unattacked."),
    "value": Heading("attacked", "higher", "as the figure", "The figure under the attack."),
    "honest": Heading("honest reference", "", "as the figure", "The figure under the honest controls of that budget."),
    "least": Heading("least allowed", "", "as the figure", "What the figure must reach."),
    "outcome": Heading("outcome", "", _TEXT, "pass, FAIL, inconclusive, or not measured."),
    "samples": Heading("images", "", "images", "Images that the comparison is over."),
    "path": Heading("path", "", _TEXT, "The path of interpolated weights."),
    "level": Heading("level", "", _TEXT, "The clean SROCC at which paths are compared."),
    "over_base": Heading("over the base", "higher", _SHARE, "Accuracy above that of the metric without a defense."),
    "type": Heading("type", "", _TEXT, "Distortion type."),
    "type_name": Heading("type's name", "", _TEXT, "What the data set calls the type."),
    "plugin": Heading("plugin", "", _TEXT, "Registered name of the attack."),
    "effort": Heading("effort", "", _TEXT, "What the attack is given more of: steps, restarts or queries."),
    "since": Heading("since", "", "as the effort", "The value that the last doubling began at."),
    "plateau": Heading("plateau", "", _TEXT, "Whether the last doubling of the effort still gained."),
    "gain": Heading("gain", "", _SIGMA, "What the last doubling gained, paired over images."),
    "allowed": Heading("allowed", "", _SIGMA, "The gain that counts as none."),
    "best_over_sigma": Heading("best known/σ", "", _SIGMA, "Shift of the best known image inside the ball."),
    "adequate": Heading("adequate", "", _TEXT, "Whether the attack comes close to the best known image."),
    "series": Heading("series", "", _TEXT, "Number of the series of efforts."),
    "claim": Heading("claim", "", _TEXT, "What holds unless gradients mislead."),
    "verdict": Heading("verdict", "", _TEXT, "What the figures say."),
    "against": Heading("against", "", _TEXT, "What it is compared with."),
    "unit": Heading("unit", "", _TEXT, "Unit of the figure."),
    "comparisons": Heading("comparisons", "", "comparisons", "Comparisons of which the deciding one is shown."),
    "needs": Heading("would take", "", _TEXT, "What would measure it."),
    "condition": Heading("condition", "", _TEXT, "Clean, or the attack and direction."),
    "name": Heading("who", "", _TEXT, "The metric, or the two that are compared, or the whole order."),
    "group": Heading("group", "", _TEXT, "Metrics that share a letter cannot be told apart, at 5 %."),
    "beaten_by": Heading("beaten by", "", _TEXT, "Metrics that are better by more than chance."),
    "difference": Heading("difference", "", _CORRELATION, "SROCC of the first less that of the second, paired."),
    "difference_error": Heading("standard error", "", _CORRELATION, "Standard error of the difference."),
    "p": Heading("p", "", "probability", "Two-sided p-value, not adjusted."),
    "p_adjusted": Heading(
        "adjusted p", "", "probability", "Two-sided p-value, adjusted over the condition's contrasts."
    ),
    "smallest_shown": Heading(
        "could be shown", "", _CORRELATION, "The smallest true difference found with a chance of 80 %."
    ),
    "resamples_median": Heading("median of resamples", "", _CORRELATION, "Median of the resampled difference."),
    "resamples_low": Heading("resamples, low", "", _CORRELATION, "2.5 percentile of the resampled difference."),
    "resamples_high": Heading("resamples, high", "", _CORRELATION, "97.5 percentile of the resampled difference."),
    "papers_rule": Heading("paper's rule", "", _TEXT, "Whether the BiRQA paper's rule calls them different."),
    "contrasts": Heading("contrasts", "", "contrasts", "Contrasts that p-values are adjusted over."),
    "same_order": Heading("same order", "", _SHARE, "Resamples in which all metrics come in the order observed."),
    "mean_tau": Heading(
        "mean τ", "", _CORRELATION, "Kendall's τ of the resampled orders with the observed one, in the mean."
    ),
    "training": Heading("training", "", _TEXT, "Which training of the weights."),
    "statistic": Heading("statistic", "", _TEXT, "Name of the figure, as layouts call it."),
    "work": Heading("what was done", "", _TEXT, "Epochs, steps, images."),
    "device": Heading("device", "", _TEXT, "What it was trained on."),
    "why": Heading("why not", "", _TEXT, "Why there is no figure."),
    "metric": Heading("metric", "", _TEXT, "The metric with its defense, and how the attacker met it."),
    "defense": Heading("defense", "", _TEXT, "The defense of the metric; none stands for the metric as it is."),
    "attack": Heading(
        "attack", "", _TEXT, "The attack or control; the norm stands beside it unless it is the max norm."
    ),
    "direction": Heading(
        "direction", "", _TEXT, "Which images are raised and which lowered; the protocol defines each."
    ),
    "eps": Heading(
        "ε", "", "max norm: of the range [0, 1] of a value; l2: length of the change", "The attack's budget."
    ),
    "state": Heading("state", "", _TEXT, "ok; failed: not all of it was finished; missing: not run."),
    "images": Heading("images", "", "images", "Images, or triplets, that the figure is over."),
    "references": Heading("references", "", "references", "Reference images that they are of."),
    "clusters": Heading("clusters", "", "clusters", "Independent units that intervals are over."),
    "draws": Heading("draws", "", "draws", "Draws of a randomised defense."),
    "splits": Heading("splits", "", "splits", "Splits that the figure is a mean over."),
    "interval": Heading(
        "interval", "", _TEXT, "What the interval is: studentised, descriptive (too few clusters) or none."
    ),
    "table": Heading("table", "", _TEXT, "Name of the table."),
    "shows": Heading("what it would show", "", _TEXT, ""),
    "cell": Heading("cell", "", _TEXT, "What failed."),
    "sample": Heading("sample", "", _TEXT, "The image it failed on."),
    "message": Heading("message", "", _TEXT, "What went wrong."),
}
_OF_TABLE: Mapping[tuple[str, str], Heading] = {
    ("adequacy", "value"): Heading("value", "", "as the effort", "What the effort was."),
    ("adequacy", "share"): Heading(
        "of best known", "", _SHARE, "Of the best known image's shift, what the attack reached."
    ),
    ("adequacy", "shift_over_sigma"): Heading("shift/σ", "", _SIGMA, "Mean movement of the score the attack's way."),
    ("frontier", "share"): Heading("weight", "", _SHARE, "Share of the defended weights on the path."),
    ("training", "value"): Heading("minutes", "", "minutes", "How long the weights were trained."),
    ("verdicts", "figure"): Heading(
        "figure that decided", "", "as the unit says", "Of the comparison most against the claim."
    ),
    ("verdicts", "verdict"): Heading("verdict", "", _TEXT, "Short name of the claim."),
}
_PARTS: Mapping[str, tuple[str, str]] = {
    "_low": (", low", "Lower end of the 95 % interval of: {}"),
    "_high": (", high", "Upper end of the 95 % interval of: {}"),
    "_bias": (", bias", "Bias by resampling of: {}"),
    "_draw_sd": (", draw sd", "Standard deviation between draws of: {}"),
    "_worst": (", worst draw", "In each image's worst draw: {}"),
    "_sd": (", sd", "Standard deviation over splits of: {}"),
}
INTERVAL_ENDS = ("_low", "_high", "_sd")
"""Ends of columns that say how firm a figure is."""
DETAIL_ENDS = ("_draw_sd", "_worst", "_worst_low", "_worst_high")
"""Ends of columns that few look for."""
FILES_ALONE = ("_bias", "_state")
"""Ends of columns that the files have and the page has not."""
_END = re.compile("^(.+?)(" + "|".join(_PARTS) + ")$")


def column_of(table: str, name: str) -> Heading | None:
    """What a column of a table's frame is; None for one that is not described."""
    known = _OF_TABLE.get((table, name)) or _COLUMNS.get(name)
    if known is not None or not (found := _END.match(name)):
        return known
    base = column_of(table, found[1])
    if base is None:
        return None
    title, meaning = _PARTS[found[2]]
    way: Better = base.way if found[2] == "_worst" else ""
    return Heading(base.title + title, way, base.unit, meaning.format(base.meaning[:1].lower() + base.meaning[1:]))


def described(table: str, name: str) -> Heading:
    """What a column is; of one that is not described its name in words, and no more."""
    return column_of(table, name) or Heading(name.replace("_", " ").strip(), "", "", "")
