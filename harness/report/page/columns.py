"""What the columns of tables are: which way is better, their unit and meaning, for the heads of the page's tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Way = Literal["higher", "lower", ""]
"""Which values are better for the metric that is attacked; empty where none are."""


class Column(NamedTuple):
    """What a column is."""

    title: str
    way: Way
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

_COLUMNS: Mapping[str, Column] = {
    "clean_srocc": Column(
        "clean SROCC", "higher", _CORRELATION, "Rank correlation of unattacked quality with opinions."
    ),
    "srocc": Column("SROCC", "higher", _CORRELATION, "Rank correlation of quality with opinions; under the attack."),
    "krocc": Column("KROCC", "higher", _CORRELATION, "Kendall's rank correlation with opinions."),
    "plcc": Column("PLCC", "higher", _CORRELATION, "Linear correlation with opinions, without a map."),
    "plcc4": Column("PLCC, 4", "higher", _CORRELATION, "Linear correlation after a logistic map of 4 parameters."),
    "plcc5": Column("PLCC, 5", "higher", _CORRELATION, "Linear correlation after a logistic map of 5 parameters."),
    "rmse4": Column("RMSE, 4", "lower", "opinions in [0, 1]", "Error after a logistic map of 4 parameters."),
    "rmse5": Column("RMSE, 5", "lower", "opinions in [0, 1]", "Error after a logistic map of 5 parameters."),
    "fit4": Column("fit, 4", "", _TEXT, "How the fit of the map of 4 parameters ended."),
    "fit5": Column("fit, 5", "", _TEXT, "How the fit of the map of 5 parameters ended."),
    "change": Column("change", "higher", _CORRELATION, "Attacked less clean: 0 where nothing is lost."),
    "shift_over_sigma": Column(
        "shift/σ", "lower", _SIGMA, "Mean movement of the score the attack's way; of a control positive is up."
    ),
    "shift_over_sigma_8bit": Column("shift/σ, 8 bit", "lower", _SIGMA, "The same of the image as 8-bit files have it."),
    "restore_over_sigma": Column("restore/σ", "", _SIGMA, "What restoring the reference alone does, the row's way."),
    "noise_over_sigma": Column(
        "noise/σ", "", _SIGMA, "What random noise alone does; in rows of attacks the row's way."
    ),
    "excess_over_restore": Column(
        "excess over restore", "lower", _SIGMA, "What the attack did beyond restoring the reference inside its ball."
    ),
    "excess_over_noise": Column(
        "excess over noise", "lower", _SIGMA, "What the attack did beyond random noise of its size."
    ),
    "excess_over_own_control": Column(
        "excess over own control",
        "lower",
        _SIGMA,
        "What the attack did beyond the honest control: restoring for images pushed up, noise for those pushed down.",
    ),
    "restore_state": Column("restore's state", "", _TEXT, "Whether the control was run: ok, failed or missing."),
    "noise_state": Column("noise's state", "", _TEXT, "Whether the control was run: ok, failed or missing."),
    "pair_state": Column("pairs' state", "", _TEXT, "Whether both ends were attacked: ok, failed or missing."),
    "raw_shift": Column("raw shift", "", "the metric's own quality", "Mean change of quality."),
    "start_share": Column("start kept", "", _SHARE, "Images where nothing better than the unattacked one was found."),
    "forwards": Column("forwards", "", _PER_IMAGE, "Evaluations of the metric."),
    "backwards": Column("backwards", "", _PER_IMAGE, "Gradients of the metric."),
    "queries": Column("queries", "", _PER_IMAGE, "Scores that a black-box attack asked for; each is a forward too."),
    "milliseconds": Column("ms", "", f"milliseconds {_PER_IMAGE}", "Time of the attack on the machine that ran it."),
    "clean_accuracy": Column("clean accuracy", "higher", _SHARE, "Pairs or triplets in the right order, unattacked."),
    "accuracy": Column("accuracy", "higher", _SHARE, "Pairs or triplets in the right order under the attack."),
    "undecided": Column("undecided", "", "triplets", "Triplets on which judges are split evenly."),
    "attacked": Column("attacked", "", _TEXT, "Which images of a pair or triplet are attacked."),
    "kind": Column("kind", "", _TEXT, "What the row is."),
    "subset": Column(
        "subset", "", _TEXT, "Which triplets: all, one kind of distortion, or the mean over kinds (macro)."
    ),
    "r": Column("R", "higher", "log10 of a ratio", "R-score: how little a score moved of what it could have."),
    "unmoved": Column("unmoved", "", "images", "Images whose score did not move; R has an upper end for them."),
    "mean_r": Column("IR", "higher", "log10 of a ratio", "R integrated over the budgets."),
    "relative_area": Column(
        "relative area", "higher", "1 is all", "Of the movement over all budgets, what the defense took away."
    ),
    "absolute_gain": Column("absolute gain", "lower", "clean scores fill [0, 1]", "Mean change of the scaled score."),
    "relative_gain": Column("relative gain", "lower", "relative to s + 1", "Mean relative change of the scaled score."),
    "classic_relative_gain": Column("classic relative gain", "lower", "relative", "Mean change relative to the score."),
    "wasserstein": Column(
        "Wasserstein", "lower", "clean scores fill [0, 1]", "Distance of the scores, signed as the shift."
    ),
    "energy": Column(
        "energy", "lower", "clean scores fill [0, 1]", "Energy distance of the scores, signed as the shift."
    ),
    "test": Column("test", "", _TEXT, "L: stronger distortion scores lower. D: distorted scores below pristine."),
    "oracle_share": Column("oracle", "", _SHARE, "The test with the opinions in place of a metric."),
    "clean_share": Column("clean", "higher", _SHARE, "Pairs in the right order, unattacked; a tie counts half."),
    "share": Column("share", "higher", _SHARE, "Pairs in the right order under the attack; a tie counts half."),
    "figure": Column("figure", "", _TEXT, "Which figure the row is about."),
    "clean": Column("clean", "higher", "as the figure", "The figure, unattacked."),
    "value": Column("attacked", "higher", "as the figure", "The figure under the attack."),
    "honest": Column("honest reference", "", "as the figure", "The figure under the honest controls of that budget."),
    "least": Column("least allowed", "", "as the figure", "What the figure must reach."),
    "outcome": Column("outcome", "", _TEXT, "pass, FAIL, inconclusive, or not measured."),
    "samples": Column("images", "", "images", "Images that the comparison is over."),
    "path": Column("path", "", _TEXT, "The path of interpolated weights."),
    "level": Column("level", "", _TEXT, "The clean SROCC at which paths are compared."),
    "over_base": Column("over the base", "higher", _SHARE, "Accuracy above that of the metric without a defense."),
    "type": Column("type", "", _TEXT, "Distortion type."),
    "type_name": Column("type's name", "", _TEXT, "What the data set calls the type."),
    "plugin": Column("plugin", "", _TEXT, "Registered name of the attack."),
    "effort": Column("effort", "", _TEXT, "What the attack is given more of: steps, restarts or queries."),
    "since": Column("since", "", "as the effort", "The value that the last doubling began at."),
    "plateau": Column("plateau", "", _TEXT, "Whether the last doubling of the effort still gained."),
    "gain": Column("gain", "", _SIGMA, "What the last doubling gained, paired over images."),
    "allowed": Column("allowed", "", _SIGMA, "The gain that counts as none."),
    "best_over_sigma": Column("best known/σ", "", _SIGMA, "Shift of the best known image inside the ball."),
    "adequate": Column("adequate", "", _TEXT, "Whether the attack comes close to the best known image."),
    "series": Column("series", "", _TEXT, "Number of the series of efforts."),
    "claim": Column("claim", "", _TEXT, "What holds unless gradients mislead."),
    "verdict": Column("verdict", "", _TEXT, "What the figures say."),
    "against": Column("against", "", _TEXT, "What it is compared with."),
    "unit": Column("unit", "", _TEXT, "Unit of the figure."),
    "comparisons": Column("comparisons", "", "comparisons", "Comparisons of which the deciding one is shown."),
    "needs": Column("would take", "", _TEXT, "What would measure it."),
    "condition": Column("condition", "", _TEXT, "Clean, or the attack and direction."),
    "name": Column("who", "", _TEXT, "The metric, or the two that are compared, or the whole order."),
    "group": Column("group", "", _TEXT, "Metrics that share a letter cannot be told apart, at 5 %."),
    "beaten_by": Column("beaten by", "", _TEXT, "Metrics that are better by more than chance."),
    "difference": Column("difference", "", _CORRELATION, "SROCC of the first less that of the second, paired."),
    "difference_error": Column("standard error", "", _CORRELATION, "Standard error of the difference."),
    "p": Column("p", "", "probability", "Two-sided p-value, not adjusted."),
    "p_adjusted": Column(
        "adjusted p", "", "probability", "Two-sided p-value, adjusted over the condition's contrasts."
    ),
    "smallest_shown": Column(
        "could be shown", "", _CORRELATION, "The smallest true difference found with a chance of 80 %."
    ),
    "resamples_median": Column("median of resamples", "", _CORRELATION, "Median of the resampled difference."),
    "papers_rule": Column("paper's rule", "", _TEXT, "Whether the BiRQA paper's rule calls them different."),
    "contrasts": Column("contrasts", "", "contrasts", "Contrasts that p-values are adjusted over."),
    "same_order": Column("same order", "", _SHARE, "Resamples in which all metrics come in the order observed."),
    "mean_tau": Column(
        "mean τ", "", _CORRELATION, "Kendall's τ of the resampled orders with the observed one, in the mean."
    ),
    "training": Column("training", "", _TEXT, "Which training of the weights."),
    "statistic": Column("statistic", "", _TEXT, "Name of the figure, as layouts call it."),
    "work": Column("what was done", "", _TEXT, "Epochs, steps, images."),
    "device": Column("device", "", _TEXT, "What it was trained on."),
    "why": Column("why not", "", _TEXT, "Why there is no figure."),
    "metric": Column("metric", "", _TEXT, "The metric with its defense, and how the attacker met it."),
    "attack": Column(
        "attack", "", _TEXT, "The attack or control; the norm stands beside it unless it is the max norm."
    ),
    "direction": Column(
        "direction", "", _TEXT, "Which images are raised and which lowered; the protocol defines each."
    ),
    "eps": Column(
        "ε", "", "max norm: of the range [0, 1] of a value; l2: length of the change", "The attack's budget."
    ),
    "state": Column("state", "", _TEXT, "ok; failed: not all of it was finished; missing: not run."),
    "images": Column("images", "", "images", "Images, or triplets, that the figure is over."),
    "references": Column("references", "", "references", "Reference images that they are of."),
    "clusters": Column("clusters", "", "clusters", "Independent units that intervals are over."),
    "draws": Column("draws", "", "draws", "Draws of a randomised defense."),
    "splits": Column("splits", "", "splits", "Splits that the figure is a mean over."),
    "interval": Column(
        "interval", "", _TEXT, "What the interval is: studentised, descriptive (too few clusters) or none."
    ),
    "table": Column("table", "", _TEXT, "Name of the table."),
    "shows": Column("what it would show", "", _TEXT, ""),
    "cell": Column("cell", "", _TEXT, "What failed."),
    "sample": Column("sample", "", _TEXT, "The image it failed on."),
    "message": Column("message", "", _TEXT, "What went wrong."),
}
_OF_TABLE: Mapping[tuple[str, str], Column] = {
    ("adequacy", "value"): Column("value", "", "as the effort", "What the effort was."),
    ("adequacy", "share"): Column(
        "of best known", "", _SHARE, "Of the best known image's shift, what the attack reached."
    ),
    ("adequacy", "shift_over_sigma"): Column("shift/σ", "", _SIGMA, "Mean movement of the score the attack's way."),
    ("frontier", "share"): Column("weight", "", _SHARE, "Share of the defended weights on the path."),
    ("training", "value"): Column("minutes", "", "minutes", "How long the weights were trained."),
    ("verdicts", "figure"): Column(
        "figure that decided", "", "as the unit says", "Of the comparison most against the claim."
    ),
    ("verdicts", "verdict"): Column("verdict", "", _TEXT, "Short name of the claim."),
}
_PARTS: Mapping[str, tuple[str, str]] = {
    "_low": (", low", "Lower end of the 95 % interval of: {}"),
    "_high": (", high", "Upper end of the 95 % interval of: {}"),
    "_bias": (", bias", "Bias by resampling of: {}"),
    "_draw_sd": (", draw sd", "Standard deviation between draws of: {}"),
    "_worst": (", worst draw", "In each image's worst draw: {}"),
    "_sd": (", sd", "Standard deviation over splits of: {}"),
}
INTERVAL = ("_low", "_high", "_sd")
"""Ends of columns that say how firm a figure is."""
DETAIL = ("_bias", "_draw_sd", "_worst", "_worst_low", "_worst_high")
"""Ends of columns that few look for."""
_END = re.compile("^(.+?)(" + "|".join(_PARTS) + ")$")


def column_of(table: str, name: str) -> Column | None:
    """What a column of a table's frame is; None for one that is not described."""
    known = _OF_TABLE.get((table, name)) or _COLUMNS.get(name)
    if known is not None or not (found := _END.match(name)):
        return known
    base = column_of(table, found[1])
    if base is None:
        return None
    title, meaning = _PARTS[found[2]]
    way: Way = base.way if found[2] == "_worst" else ""
    return Column(base.title + title, way, base.unit, meaning.format(base.meaning[:1].lower() + base.meaning[1:]))


def described(table: str, name: str) -> Column:
    """What a column is; of one that is not described its name in words, and no more."""
    return column_of(table, name) or Column(name.replace("_", " ").strip(), "", "", "")
