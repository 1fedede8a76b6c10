"""Pictures of a search: the archive as a heat map, and its scores over evaluations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .grid import Grid


def heat_map(grid: Grid, path: Path, title: str, areas: Tensor | None = None) -> None:
    """Draw the elites' objectives where their outcomes are.

    Args:
        grid: With two measures.
        path: The PNG to write.
        title: Printed above.
        areas: Reward areas to ring, ``[A, 3]``: centre and radius.

    Raises:
        ValueError: The grid has another number of measures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    if len(grid.low) != 2:
        raise ValueError(f"a heat map has two measures, and this grid has {len(grid.low)}")
    shown = torch.where(grid.occupied, grid.objective, torch.nan).reshape(grid.bins, grid.bins).T.numpy()
    (x0, y0), (x1, y1) = grid.low.tolist(), grid.high.tolist()
    figure = Figure(figsize=(7, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shown, origin="lower", extent=(x0, x1, y0, y1), aspect="auto", cmap="viridis")
    for x, y, radius in [] if areas is None else areas.tolist():
        axes.add_patch(Circle((x, y), radius, fill=False, color="tab:red", lw=1.5))
    axes.set_title(f"{title}\ncoverage {grid.scores()['coverage']:.1%}", fontsize=11)
    axes.set_xlabel("descriptor 0")
    axes.set_ylabel("descriptor 1")
    figure.colorbar(image, label="objective")
    figure.savefig(path)


def progress_curve(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw coverage, QD score and the best objective of each area over evaluations.

    Args:
        rows: The run's metrics.
        path: The PNG to write.
        title: Printed above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    areas = sorted({k for row in rows for k in row if k.startswith("area_")})
    panels = [("coverage", ["coverage"]), ("QD score", ["qd_score"]), ("best objective", areas or ["best"])]
    figure = Figure(figsize=(7, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    at = np.array([row["step"] for row in rows], dtype=np.float64)
    every = figure.subplots(len(panels), 1, sharex=True)
    for axes, (label, names) in zip(every, panels):
        for name in names:
            values = [np.nan if row.get(name) is None else row[name] for row in rows]
            axes.plot(at, np.array(values, dtype=np.float64), lw=1.6, label=name.replace("_", " "))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(names) > 1:
            axes.legend(fontsize=8)
    every[-1].set_xlabel("evaluations")
    every[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.savefig(path)
