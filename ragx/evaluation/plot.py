"""Pictures of tables: grids of the needle tasks (paper Figure 4), perplexities over tokens of context, and shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError
from ragx.evaluation.bootstrap import Estimate
from ragx.evaluation.tables import Cell


@dataclass(frozen=True)
class Scale:
    """What the values of a grid are."""

    most: float
    """The value of the greenest cell; 0 is red."""
    values: str
    lengths: str
    format: str


FOUND = Scale(1, "answers with the number", "haystack tokens in the encoder", ".0%")
ROUGE = Scale(10, "ROUGE-1 × 10", "tokens", ".1f")


@dataclass(frozen=True)
class Grid:
    """Values (lengths, depths) of one reader."""

    title: str
    lengths: Sequence[int]
    depths: Sequence[float]
    values: Sequence[Sequence[float]]


def check_plot(path: Path) -> None:
    """Raise a `ConfigError` if the picture cannot be drawn, before hours of measuring."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'ragx[plot]'") from None
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot must be a .png file in an existing folder, got {path}")


def draw_grids(path: Path, grids: Sequence[Grid], scale: Scale) -> None:
    """Draw grids as a PNG, one above the other: lengths from left to right, depths downwards."""
    from matplotlib.figure import Figure

    width = 1.6 + 0.9 * max(len(grid.lengths) for grid in grids)
    height = sum(1.6 + 0.5 * len(grid.depths) for grid in grids)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots(len(grids), squeeze=False)
    for (plot,), grid in zip(axes, grids, strict=True):
        columns = [list(column) for column in zip(*grid.values, strict=True)]  # (depths, lengths)
        image = plot.imshow(columns, cmap="RdYlGn", vmin=0, vmax=scale.most, aspect="auto")
        plot.set_title(grid.title, fontsize="medium")
        plot.set_xticks(range(len(grid.lengths)), [f"{length:,}" for length in grid.lengths])
        plot.set_yticks(range(len(grid.depths)), [f"{depth:.0f}" for depth in grid.depths])
        plot.set_xlabel(scale.lengths)
        plot.set_ylabel("depth (%)")
        for row, depth_values in enumerate(columns):
            for column, value in enumerate(depth_values):
                plot.text(column, row, format(value, scale.format), ha="center", va="center", fontsize=8)
        figure.colorbar(image, label=scale.values)
    figure.savefig(path, dpi=150)


def draw_curves(path: Path, sets: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> None:
    """Draw perplexity over tokens of context as a PNG: data sets side by side, in each a curve a reader."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4 * len(sets), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(sets), squeeze=False)
    for plot, (name, curves) in zip(axes[0], sets.items(), strict=True):
        for label, points in curves.items():
            plot.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
        ticks = sorted({tokens for points in curves.values() for tokens, _ in points})
        plot.set_xscale("log", base=2)
        plot.set_xticks(ticks, [f"{tokens:,}" for tokens in ticks])
        plot.set_yscale("log")
        plot.set_title(name, fontsize="medium")
        plot.set_xlabel("tokens of context")
        plot.set_ylabel("perplexity")
        plot.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def draw_bars(path: Path, labels: Sequence[str], runs: Mapping[str, Sequence[Cell]]) -> None:
    """Draw shares in percent with their intervals as a PNG: a group of bars for each label, in it one for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.8 + 0.45 * len(labels)), layout="constrained")
    plot: Any = figure.subplots()
    height = 0.8 / len(runs)
    for number, (name, estimates) in enumerate(runs.items()):
        drawn = [(place, each) for place, each in enumerate(estimates) if isinstance(each, Estimate)]
        values = [each.value for _, each in drawn]
        errors = [[each.value - each.low for _, each in drawn], [each.high - each.value for _, each in drawn]]
        places = [place + height * (number - (len(runs) - 1) / 2) for place, _ in drawn]
        plot.barh(places, values, height, xerr=errors, label=name, ecolor="0.35", error_kw={"elinewidth": 1})
    plot.set_yticks(range(len(labels)), labels)
    plot.invert_yaxis()
    plot.set_xlim(0, 100)
    plot.set_xlabel("with 95 % intervals")
    if len(runs) > 1:
        figure.legend(fontsize="small", loc="outside upper right", ncols=len(runs))
    figure.savefig(path, dpi=150)
