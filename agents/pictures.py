"""Pictures of a run: its learning curve as PNG, and its agent at work as MP4."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


def learning_curve(rows: Sequence[Mapping[str, float]], path: Path, title: str, goal: float | None = None) -> None:
    """Draw return and success rate over environment steps.

    Args:
        rows: The run's metrics, one mapping a row, ``step`` in each; ``rollout/ep_rew_mean`` and
            ``rollout/success_rate`` are drawn as lines, ``eval/return`` and ``eval/success`` (the frozen agent
            on fresh levels, with its 95 % interval) as points.
        path: The PNG to write.
        title: Printed above the picture.
        goal: A success rate to mark with a dashed line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    def column(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return x[np.isfinite(y)], y[np.isfinite(y)]

    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    above, below = figure.subplots(2, 1, sharex=True)
    panels = [
        (above, "return", "rollout/ep_rew_mean", "eval/return", "tab:blue"),
        (below, "success", "rollout/success_rate", "eval/success", "tab:green"),
    ]
    for axes, label, training, trial, colour in panels:
        x, y = column(training)
        axes.plot(x, y, color=colour, lw=1.6, label="training episodes")
        x, y = column(trial)
        if len(x):
            axes.plot(x, y, "o", color="black", ms=5, label="frozen agent, fresh levels", zorder=3)
            if trial == "eval/success":
                low, high = column("eval/success_low")[1], column("eval/success_high")[1]
                axes.vlines(x, low, high, color="black", lw=1, zorder=2)
        if not axes.has_data() or not any(len(line.get_xdata()) for line in axes.get_lines()):
            axes.text(0.5, 0.5, f"no {label} was recorded", transform=axes.transAxes, ha="center", color="grey")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if goal is not None:
        below.axhline(goal, color="grey", ls="--", lw=1, label=f"goal {goal:.0%}")
    below.set_ylim(-0.03, 1.03)
    below.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    below.set_xlabel("environment steps")
    below.set_xlim(left=0)
    below.legend(loc="lower right", frameon=False, fontsize=9)
    figure.savefig(path)


class Caption(NamedTuple):
    """What is written under a frame."""

    head: str
    """First line: the task's mission, or its id."""
    foot: str
    """Second line: level, step, return."""
    outcome: bool | None = None
    """None while the episode goes on, then whether it was a success: the colour of the frame's edge."""


def captioned(frame: Frame, caption: Caption, width: int = 480) -> Frame:
    """Put a caption under a frame and, when the episode has ended, an edge that is green for a success.

    Args:
        frame: The picture, uint8 ``[H, W, 3]``.
        caption: The two lines and the outcome.
        width: The width to scale to, in pixels; kept a multiple of 16 for the video encoder.

    Returns:
        uint8 ``[H', width, 3]`` with H' a multiple of 16.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(frame)
    height = round(frame.shape[0] * width / frame.shape[1])
    resample = Image.Resampling.NEAREST if frame.shape[1] < width else Image.Resampling.LANCZOS
    picture = picture.resize((width, height), resample)
    total = -(-(height + 52) // 16) * 16
    canvas = Image.new("RGB", (width, total), (18, 18, 18))
    canvas.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=16)
    for line, top, shade in ((caption.head, height + 6, 255), (caption.foot, height + 28, 190)):
        while draw.textlength(line, font=font) > width - 16 and len(line) > 2:
            line = line[:-2] + "…"
        draw.text((8, top), line, font=font, fill=(shade, shade, shade))
    if caption.outcome is not None:
        edge = (40, 200, 80) if caption.outcome else (220, 60, 60)
        draw.rectangle((0, 0, width - 1, height - 1), outline=edge, width=6)
    return np.asarray(canvas, dtype=np.uint8)


def write_video(frames: Iterable[Frame], path: Path, fps: int = 8) -> int:
    """Encode frames as H.264 in MP4 with the ffmpeg that ``imageio-ffmpeg`` brings.

    Args:
        frames: uint8 ``[H, W, 3]``, all of one shape, H and W multiples of 16; taken one at a time.
        path: The file to write; it appears only when it is complete.
        fps: Frames a second.

    Returns:
        How many frames were written.

    Raises:
        ValueError: There are no frames.
    """
    import imageio_ffmpeg  # type: ignore[import-untyped]

    partial, writer, count = path.with_name(f".{path.stem}.partial.mp4"), None, 0
    try:
        for frame in frames:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = imageio_ffmpeg.write_frames(str(partial), size, fps=fps, quality=7, macro_block_size=16)
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
            count += 1
    finally:
        if writer is not None:
            writer.close()
    if count == 0:
        raise ValueError("there are no frames to write")
    partial.replace(path)
    return count


def mission_of(obs: Any, fallback: str) -> str:
    """The mission that an observation carries as text, else ``fallback``."""
    mission = obs.get("mission") if isinstance(obs, dict) else None
    return mission if isinstance(mission, str) else fallback
