"""A reward machine as a picture: states as circles on layers, edges as arrows with their formulas.

Drawn with matplotlib alone. States stand on layers by their distance from the start (Sugiyama, Tagawa and Toda,
"Methods for visual understanding of hierarchical system structures", 1981): within a layer in the order that crosses
least, by barycentres.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

RADIUS, BEND = 0.34, 0.16  # of a state; of an arrow that has one the other way beside it
SCALE = 0.95  # inches of a unit
Place = NDArray[np.float64]


class Machine(Protocol):
    """What is drawn of a ``RewardMachine``."""

    states: list[str]
    """U names."""
    final: Tensor
    """bool ``[U]``."""
    starts: Tensor
    """Initial states, int64."""

    @property
    def edges(self) -> Sequence[tuple[str, str, str, float]]:
        """(state, formula, next state, reward)."""
        ...


def draw(
    machine: Machine,
    path: str | None = None,
    *,
    ax: Any = None,
    loops: bool = True,
    hide: Sequence[str] = (),
    title: str | None = None,
    width: int = 26,
) -> Any:
    """Draw a machine.

    The initial state has an arrow from nowhere, final ones a double line. An edge is labelled with its formula and,
    where it pays, its reward; parallel edges share an arrow.

    Args:
        machine: The machine; beyond some 25 states a picture helps nobody.
        path: File to write (``.png``, ``.svg``, ``.pdf``), or None.
        ax: Axes to draw into, or None for a figure of its own.
        loops: Draw self-loops too.
        hide: Names of states that are left out with their edges, such as ``"failed"``.
        title: Over the picture.
        width: Longer labels are broken into lines.

    Returns:
        The figure.

    Raises:
        ValueError: A hidden state is not there, or nothing is left.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    unknown = [name for name in hide if name not in machine.states]
    shown = [u for u, name in enumerate(machine.states) if name not in hide]
    if unknown or not shown:
        what = f"there is no state {unknown[0]!r}" if unknown else "every state is hidden"
        raise ValueError(f"{what}; the machine has {', '.join(machine.states)}")
    arrows: dict[tuple[int, int], list[str]] = {}
    index = {name: u for u, name in enumerate(machine.states)}
    for source, formula, target, reward in machine.edges:
        u, v = index[source], index[target]
        if u in shown and v in shown and (loops or u != v):
            text = _wrapped(formula, width) + (f"\n{reward:+g}" if reward else "")
            arrows.setdefault((u, v), []).append(text)
    texts = {pair: "\nor ".join(parts) for pair, parts in arrows.items()}
    places = _layout(machine, shown, list(arrows), texts)
    if ax is None:
        extent = np.ptp(np.array(list(places.values())), axis=0)
        figure = Figure(figsize=(2.2 + SCALE * extent[0], 2.2 + SCALE * extent[1]))
        ax = figure.add_subplot()
    boxes, _ = _labels(places, texts)
    for pair, text in texts.items():
        _arrow(ax, places, pair, pair[::-1] in texts)
        grey = {"color": "#777777", "fontsize": 8} if pair[0] == pair[1] else {"fontsize": 8.5}
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
        x, y = boxes[pair].mean(0)
        ax.text(x, y, text, ha="center", va="center", bbox=ground, zorder=2, **grey)
    starts = set(machine.starts.tolist())
    for u in shown:
        x, y = places[u]
        ax.add_patch(Circle((x, y), RADIUS, facecolor="#eef3fa", edgecolor="#222222", linewidth=1.3, zorder=3))
        if bool(machine.final[u]):
            ax.add_patch(Circle((x, y), RADIUS * 0.84, fill=False, edgecolor="#222222", linewidth=1.0, zorder=4))
        size = min(10.0, 46.0 / max(len(machine.states[u]), 1))
        ax.text(x, y, machine.states[u], ha="center", va="center", fontsize=size, zorder=5)
        if u in starts:
            ax.annotate("", (x - RADIUS, y), (x - RADIUS - 0.5, y), arrowprops=_style(0.0), zorder=2)
    if title:
        ax.set_title(title, fontsize=11)
    every = np.array(list(places.values()))
    low, high = every.min(0) - 1.1, every.max(0) + 1.1
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1] + 0.25), aspect="equal")
    ax.axis("off")
    figure = ax.figure
    if path is not None:
        figure.savefig(path, dpi=130, bbox_inches="tight")
    return figure


def _wrapped(text: str, width: int) -> str:
    lines, line = [], ""
    for part in text.replace(" | ", " |\n").replace("&", " & ").split("\n"):
        for word in part.split(" "):
            if line and len(line) + len(word) + 1 > width and word not in "&|":
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        if part.endswith("|"):
            lines.append(line)
            line = ""
    return "\n".join([*lines, line] if line else lines)


def _layout(
    machine: Machine, shown: list[int], arrows: list[tuple[int, int]], texts: dict[tuple[int, int], str]
) -> dict[int, Place]:
    """Where each state stands: layers from left to right."""
    paid = {v for (_, v), text in texts.items() if "\n+" in text}
    sinks = [u for u in shown if bool(machine.final[u]) and u not in paid and sum(v == u for _, v in arrows) > 1]
    sinks = sinks if len(sinks) < len(shown) else []
    shown = [u for u in shown if u not in sinks]
    depth = {u: 0 for u in machine.starts.tolist() if u in shown} or {shown[0]: 0}
    todo = list(depth)
    for u in todo:  # grows while it is read
        for a, b in arrows:
            if a == u and b not in depth and b in shown:
                depth[b] = depth[u] + 1
                todo.append(b)
    last = max(depth.values()) + 1
    for u in shown:  # ends stand at the end, and what is never reached
        if u not in depth or bool(machine.final[u]):
            depth[u] = last
    layers = [[u for u in shown if depth[u] == d] for d in range(max(depth.values()) + 1)]
    layers = [layer for layer in layers if layer]
    for _ in range(8):
        for d in range(1, len(layers)):
            rank = {u: i - (len(layers[d - 1]) - 1) / 2 for i, u in enumerate(layers[d - 1])}
            beside = {v: [rank[a] for a, b in arrows if b == v and a in rank] for v in layers[d]}
            mean = {v: float(np.mean(ranks)) if ranks else 0.0 for v, ranks in beside.items()}
            layers[d].sort(key=mean.__getitem__)
    places, x = {}, 0.0
    for d, layer in enumerate(layers):
        if d:  # as far from the last layer as the longest label between them needs
            here, there = set(layers[d - 1]), set(layer)
            lengths = [_columns(t) for (a, b), t in texts.items() if a != b and {a, b} & here and {a, b} & there]
            x += max([1.7] + [0.125 * n + 1.1 for n in lengths])
        loops = [_lines(texts[u, u]) for u in layer if (u, u) in texts]
        apart = 1.75 + 0.24 * max(loops, default=0)
        for i, u in enumerate(layer):
            places[u] = np.array([x, ((len(layer) - 1) / 2 - i) * apart])
    home = dict(places)
    for u in shown:  # who stands in the way of an arrow steps aside
        for step in (0.0, 0.9, -0.9, 1.8, -1.8):
            places[u] = places[u] + np.array([0.0, step - (places[u][1] - home[u][1])])
            ways = [(places[a], places[b]) for a, b in arrows if a != b and u not in (a, b) and {a, b} <= set(places)]
            if all(_distance(places[u], a, b) > RADIUS + 0.15 for a, b in ways):
                break
    for u in sinks:
        _sink(places, texts, u)
    return places


def _sink(places: dict[int, Place], every: dict[tuple[int, int], str], sink: int) -> None:
    """Put an end that many lead to, for nothing, below all others, where its arrows are least in the way."""
    texts = {(a, b): t for (a, b), t in every.items() if a in places and (b in places or b == sink)}
    others = np.array([p for u, p in places.items() if u != sink])
    below = others[:, 1].min() - 1.9
    best, least = others[0], np.inf
    for x in np.linspace(others[:, 0].min(), others[:, 0].max(), 41):
        places[sink] = np.array([x, below])
        _, cost = _labels(places, texts)
        cost += 0.01 * abs(x - others[:, 0].mean())
        if cost < least:
            best, least = places[sink], cost
    places[sink] = best


def _labels(places: dict[int, Place], texts: dict[tuple[int, int], str]) -> tuple[dict[tuple[int, int], Place], float]:
    """The box of each label, ``[[left, bottom], [right, top]]``, and how much is in the way of something else.

    Each label takes the place along its arrow where it hides least of what stands already.
    """
    circles = [np.array([p - RADIUS, p + RADIUS]) for p in places.values()]
    taken: list[Place] = list(circles)
    out: dict[tuple[int, int], Place] = {}
    cost = 0.0
    for pair in sorted(texts, key=lambda pair: pair[0] != pair[1]):
        half = np.array([0.0375 * _columns(texts[pair]) + 0.06, 0.08 * _lines(texts[pair])])
        a, b = places[pair[0]], places[pair[1]]
        if pair[0] == pair[1]:
            middle = a + np.array([0.0, 0.70 + half[1]])
            out[pair] = np.array([middle - half, middle + half])
            taken += [out[pair], np.array([a + [-0.25, RADIUS], a + [0.25, 0.7]])]
            continue
        for u, p in places.items():
            if u not in pair and _distance(p, a, b) < RADIUS + 0.08:
                cost += 10.0
            elif u not in pair and _distance(p + np.array([0.0, 0.6]), a, b) < 0.2 and (u, u) in texts:
                cost += 3.0
        least = np.inf
        for share in (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73):
            middle = _along(a, b, share, pair[::-1] in texts)
            if abs(b[1] - a[1]) < 0.3 * abs(b[0] - a[0]) and pair[::-1] not in texts:
                middle = middle + np.array([0.0, half[1] + 0.06 + abs(b[1] - a[1]) * half[0] / abs(b[0] - a[0])])
            box = np.array([middle - half, middle + half])
            hidden = sum(_overlap(box, other) for other in taken) + 0.01 * abs(share - 0.5)
            # Other arrows under the label are a lesser evil.
            hidden += sum(
                0.2 for c, d in texts if (c, d) != pair and c != d and _crosses(box, places[c], places[d])
            )  # fmt: skip
            if hidden < least:
                out[pair], least = box, hidden
        cost += least
        taken.append(out[pair])
    return out, cost


def _overlap(a: Place, b: Place) -> float:
    sides = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])
    return 1.0 + float(sides.min()) if (sides > 0.02).all() else 0.0


def _crosses(box: Place, a: Place, b: Place) -> bool:
    points = a + np.linspace(0, 1, 24)[:, None] * (b - a)
    return bool(((points > box[0]) & (points < box[1])).all(1).any())


def _distance(p: Place, a: Place, b: Place) -> float:
    t = float(np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1))
    return float(np.linalg.norm(p - a - t * (b - a)))


def _along(a: Place, b: Place, share: float, both: bool) -> Place:
    """A point of the arrow; of two that go both ways, each bends to its own side."""
    across = np.array([a[1] - b[1], b[0] - a[0]])
    return a + share * (b - a) + across * ((BEND if both else 0.0) * 2 * share * (1 - share))


def _columns(text: str) -> int:
    return max(len(line) for line in text.split("\n"))


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _style(bend: float) -> dict[str, Any]:
    return {
        "arrowstyle": "-|>", "color": "#555555", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11,
        "connectionstyle": f"arc3,rad={bend}",
    }  # fmt: skip


def _arrow(ax: Any, places: dict[int, Place], pair: tuple[int, int], both: bool) -> None:
    a, b = places[pair[0]], places[pair[1]]
    if pair[0] == pair[1]:
        left, right = a + RADIUS * np.array([-0.6, 0.8]), a + RADIUS * np.array([0.6, 0.8])
        ax.annotate("", right, left, arrowprops=_style(-1.6), zorder=1)
        return
    along = (b - a) / np.linalg.norm(b - a)
    ax.annotate("", b - along * RADIUS, a + along * RADIUS, arrowprops=_style(-BEND if both else 0.0), zorder=1)
