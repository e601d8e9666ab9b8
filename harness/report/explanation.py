"""The panels of a metric's explanation as one figure. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts import Metric, Panel
from harness.engine.drawing import PALETTE
from harness.engine.one_pair import Explanation
from harness.errors import UserError
from harness.files import write_whole
from harness.plugins.registry import Registry
from harness.suite.model import MetricUse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".pdf", ".svg")
_WIDTH = 1.9
_HEIGHT = 1.75
_MOST = 9
"""Panels side by side."""


def refuse_figure(path: Path, uses: Sequence[MetricUse], registry: Registry) -> None:
    """Whether these metrics can be explained there, before anything is computed.

    Raises:
        UserError: They are several, the one has no explanation, or the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--explain {path}: figures are written as {', '.join(SUFFIXES)}. Give such a name.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--explain {path}: the folder {path.parent} does not exist. Create it, or choose another.")
    if len(uses) != 1:
        raise UserError(f"--explain {path}: one metric is explained at a time. Name it with --metric.")
    if not _explains(uses[0].name, registry):
        able = [name for name in registry.names("metrics") if _explains(name, registry)]
        raise UserError(
            f"--explain {path}: metric '{uses[0].name}' has no explanation to draw. "
            f"These have: {', '.join(able) or 'none'}."
        )


def _explains(name: str, registry: Registry) -> bool:
    try:
        return registry.metric(name).cls.explain is not Metric.explain
    except UserError:
        return False


def draw(found: Explanation, path: Path) -> None:
    """Write the images and the panels as one figure.

    Args:
        found: What the metric explained, and the images, which are shown in the first row.
        path: Where to; its suffix is the format.

    Raises:
        UserError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows: list[tuple[str, list[Panel]]] = []
    for panel in found.panels:
        if not rows or rows[-1][0] != panel.row or len(rows[-1][1]) == _MOST:
            rows.append((panel.row, []))
        rows[-1][1].append(panel)
    across = max(len(found.images), *(len(row) for _, row in rows))
    figure = Figure(figsize=(_WIDTH * across, 0.5 + _HEIGHT * (len(rows) + 1)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(found.title)
    strips = figure.subfigures(len(rows) + 1, squeeze=False)[:, 0]
    for strip, (heading, row) in zip(strips, [("", None), *rows], strict=True):
        strip.suptitle(heading, fontsize=9, x=0.01, ha="left")
        axes = strip.subplots(1, across, squeeze=False)[0]
        for place in axes:
            place.set_axis_off()
        if row is None:
            for place, (name, image) in zip(axes, found.images.items(), strict=False):
                place.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
                place.set_title(name, fontsize=7)
            continue
        for place, panel in zip(axes, row, strict=False):
            _panel(strip, place, panel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower().lstrip("."))
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"--explain {path}: cannot be written ({error.strerror or error}). Choose another.") from error


def _panel(strip: Any, axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=7)
    low, high = panel.limits or (None, None)
    if panel.image is not None:
        values = panel.image.detach().float().cpu().numpy()
        diverging = low is None and values.min() < 0 < values.max()
        if diverging:
            high = float(abs(values).max())
            low = -high
        colours = "RdBu_r" if diverging else "viridis"
        shown = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        strip.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=5)
    if panel.bars is not None:
        axes.set_axis_on()
        bars = axes.barh(list(panel.bars), list(panel.bars.values()), color=PALETTE[0])
        axes.bar_label(bars, fmt="%.3g", fontsize=6, padding=2)
        axes.invert_yaxis()
        axes.margins(x=0.25)
        if low is not None:
            axes.set_xlim(low, high)
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
