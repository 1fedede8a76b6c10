"""What a designer is told of a training run: the course of every component and of the task's measure."""

from collections.abc import Mapping, Sequence

MOMENTS = 10  # at which values are shown


def thinned(values: Sequence[float], moments: int = MOMENTS) -> list[float]:
    """At most ``moments`` values, evenly spaced, the first and the last among them."""
    if len(values) <= moments:
        return list(values)
    return [values[round(k * (len(values) - 1) / (moments - 1))] for k in range(moments)]


def told(course: Mapping[str, Sequence[float]]) -> str:
    """A line for each component and measure: its values in training's course, its largest, mean and smallest.

    As Eureka's reward reflection does (Ma et al., "Eureka: Human-Level Reward Design via Coding Large Language Models",
    2024, section 3.3).
    """
    lines = []
    for name, values in course.items():
        if not values:
            continue
        shown = ", ".join(f"{v:.4g}" for v in thinned(values))
        mean = sum(values) / len(values)
        lines.append(f"- {name}: {shown} (largest {max(values):.4g}, mean {mean:.4g}, smallest {min(values):.4g})")
    return "\n".join(lines)


def advice(course: Mapping[str, Sequence[float]]) -> list[str]:
    """What follows from a course by rule: a part that hardly moves, one that outweighs all, a task never solved."""
    found = []
    measure = course.get("success") or course.get("task return") or []
    if measure and max(measure) <= 0:
        found.append("The task was never solved in training: consider a new form of the whole reward.")
    parts = {name: values for name, values in course.items() if name not in ("success", "task return", "reward")}
    sizes = {name: sum(map(abs, values)) / len(values) for name, values in parts.items() if values}
    for name, values in parts.items():
        if len(values) > 1 and max(values) - min(values) <= 1e-3 * max(sizes[name], 1e-9):
            found.append(f"The part {name!r} hardly changed: the agent does not move it. Change its scale, rewrite it, "
                         "or leave it out.")  # fmt: skip
        rest = max((s for other, s in sizes.items() if other != name), default=0.0)
        if rest > 0 and sizes[name] > 20 * rest:
            found.append(f"The part {name!r} is more than 20 times as large as any other: scale it down.")
    return found
