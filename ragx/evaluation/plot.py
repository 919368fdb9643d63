"""The grid of the needle task as a picture (paper Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragx.errors import ConfigError


def check_plot(path: Path) -> None:
    """Raise a `ConfigError` if the picture cannot be drawn, before hours of measuring."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install 'ragx[plot]'") from None
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot must be a .png file in an existing folder, got {path}")


def draw_grid(path: Path, lengths: Sequence[int], depths: Sequence[float], shares: Sequence[Sequence[float]]) -> None:
    """Draw the shares of needles found, (lengths, depths), as a PNG: lengths from left to right, depths downwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 0.9 * len(lengths), 1.6 + 0.5 * len(depths)), layout="constrained")
    axes: Any = figure.subplots()
    columns = [list(column) for column in zip(*shares, strict=True)]  # (depths, lengths)
    image = axes.imshow(columns, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    axes.set_xlabel("haystack tokens in the encoder")
    axes.set_ylabel("depth (%)")
    for row, depth_shares in enumerate(columns):
        for column, share in enumerate(depth_shares):
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8)
    figure.colorbar(image, label="answers with the number")
    figure.savefig(path, dpi=150)
