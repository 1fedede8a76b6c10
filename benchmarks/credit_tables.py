"""The tables, the sentences and the picture of ``cairn bench credit``, from its cells."""

from collections.abc import Sequence
from pathlib import Path

from cairn.benchmarks.credit_studies import SOLVED, STUDIES
from cairn.benchmarks.tables import interval, iqm


def successes(row: dict[str, str], window: int = 1) -> list[float]:
    """A run's success after each measurement, as the mean of the last ``window`` ones."""
    found = [float(success) for success in row["success"].split()]
    parts = [found[max(i + 1 - window, 0) : i + 1] for i in range(len(found))]
    return [sum(part) / len(part) for part in parts]


def steps_to(row: dict[str, str], goal: float, window: int = 1) -> float:
    """Steps at which a run's success first was as high; infinite where it never was."""
    points = zip(row["steps"].split(), successes(row, window))
    return next((float(at) for at, success in points if success >= goal), float("inf"))


def goal_of(rows: Sequence[dict[str, str]], window: int = 1) -> float:
    """90 %, or what the outcome alone comes to by the end, where that is less."""
    ends = [successes(row, window)[-1] for row in rows if row["method"] == "outcome"]
    return round(min(SOLVED, iqm(ends)), 2) if ends else SOLVED


def table(study: str, rows: Sequence[dict[str, str]]) -> str:
    """A study's table in Markdown: IQM over seeds and 95 % intervals."""
    window = STUDIES[study].window
    goal = goal_of(rows, window)
    titles = ["method", "seeds", "success at the end", f"steps to {goal:.0%}", "of outcome's"]
    lines = [
        f"| {' | '.join([*titles, 'proxy, first', 'proxy, last', 'loop'])} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    outcome = [steps_to(row, goal, window) for row in rows if row["method"] == "outcome"]
    for method in STUDIES[study].methods:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        last = [successes(row, window)[-1] for row in mine]
        needed = [steps_to(row, goal, window) for row in mine]
        low, high = interval(last)
        share = share_of(iqm(needed), iqm(outcome)) if outcome else None
        first, final = (iqm([float(row["proxy"].split()[i]) for row in mine]) for i in (0, -1))
        lines.append(
            f"| {method} | {len(mine)} | {iqm(last):.2f} ({low:.2f} to {high:.2f}) | {spelled(iqm(needed))} "
            f"| {'-' if share is None else f'{share:.0%}'} | {first:.1f} | {final:.1f} "
            f"| {iqm([float(row['loop']) for row in mine]):.2f} |"
        )
    return "\n".join(lines)


def share_of(steps: float, others: float) -> float | None:
    """The quotient, where both are known and there was anything to learn."""
    return steps / others if 0 < others and max(steps, others) < float("inf") else None


def percent(share: float) -> str:
    """A share, or that there is none."""
    return f"{share:.0%}" if share < float("inf") else "never"


def spelled(steps: float) -> str:
    """A number of steps, or that it was not reached."""
    return f"{steps:,.0f}" if steps < float("inf") else "not reached"


def picture(found: dict[str, list[dict[str, str]]], path: Path) -> None:
    """Success and proxy over steps, a column for each study: IQM and interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(found), 7), layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False)
    for column, (study, rows) in enumerate(found.items()):
        for i, method in enumerate(STUDIES[study].methods):
            mine = [row for row in rows if row["method"] == method]
            for axis, what in zip(grid[:, column], ("success", "proxy")):
                curves = [[float(v) for v in row[what].split()] for row in mine]
                if not curves:
                    continue
                at = [int(v) / 1e3 for v in mine[0]["steps"].split()]
                points = list(zip(*curves))
                axis.plot(at, [iqm(p) for p in points], color=f"C{i}", label=f"{method} ({len(mine)})")
                bounds = [interval(p, resamples=300) for p in points]
                axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], color=f"C{i}", alpha=0.15)
        grid[0, column].set(title=study, ylabel="success on fresh levels", ylim=(0, 1.02))
        grid[1, column].set(xlabel="thousand steps of tuning", ylabel=f"sum of {STUDIES[study].reward} in an episode")
        grid[0, column].legend(fontsize="small")
    figure.savefig(path, dpi=100)


def verdict(rows: Sequence[dict[str, str]]) -> str:
    """What ``cloned`` and ``cloned_fast`` together say of the minimum's speed: steps to the outcome's own end."""
    window = STUDIES["cloned"].window
    goal = goal_of([row for row in rows if row["study"] == "cloned"], window)

    def steps(study: str, method: str) -> float:
        mine = [row for row in rows if (row["study"], row["method"]) == (study, method)]
        return iqm([steps_to(row, goal, window) for row in mine]) if mine else float("inf")

    alone = steps("cloned", "outcome")
    parts = [f"To the {goal:.0%} that the outcome alone comes to, IQM of steps: the outcome alone {spelled(alone)}"]
    for study, what in (("cloned", "outcome + minimum"), ("cloned_fast", "outcome + minimum, twice the step size")):
        needed = steps(study, "outcome + minimum")
        share = share_of(needed, alone)
        parts.append(f"{what} {spelled(needed)}{'' if share is None else f' ({share:.0%})'}")
    return "; ".join(parts) + ". The paper has 30 % on mathematics."


def paired(rows: Sequence[dict[str, str]], method: str, window: int = 1, alone: str = "outcome") -> list[float]:
    """Steps to the success that the outcome alone ends with, over its own steps to it, by seed; not where it fell."""
    mine = {row["seed"]: row for row in rows if row["method"] == method}
    shares = []
    for row in rows:
        if row["method"] == alone and row["seed"] in mine:
            goal = successes(row, window)[-1]
            own = steps_to(row, goal, window)
            shares += [steps_to(mine[row["seed"]], goal, window) / own] if own else []
    return shares


def middle(rows: Sequence[dict[str, str]], method: str, window: int = 1) -> list[tuple[float, float]]:
    """Steps, and the IQM of success over seeds after them."""
    mine = [row for row in rows if row["method"] == method]
    points = zip(*(successes(row, window) for row in mine))
    return [(float(at), iqm(point)) for at, point in zip(mine[0]["steps"].split(), points)] if mine else []


def seed_by_seed(rows: Sequence[dict[str, str]], window: int, alone: str = "outcome") -> str:
    """What ``long`` says of the minimum's speed beside the outcome alone: by the curves of IQM, and by seed."""
    own = middle(rows, alone, window)
    goal, told = round(own[-1][1], 2), []
    first = next((at for at, success in own if success >= goal), own[-1][0])
    for method in dict.fromkeys(row["method"] for row in rows if "minimum" in row["method"]):
        shares = paired(rows, method, window, alone)
        if shares:
            needed = next((at for at, success in middle(rows, method, window) if success >= goal), float("inf"))
            each = f"IQM {percent(iqm(shares))}; {', '.join(map(percent, sorted(shares)))}"
            told.append(f"{method} {spelled(needed)} ({percent(needed / max(first, 1.0))}; by seed {each})")
    return (
        f"To the {goal:.0%} that `{alone}` comes to, steps by which the IQM over seeds is there: {alone} {first:,.0f}; "
        f"{'; '.join(told)}. By seed: to what it ends with on that seed."
    )


def best_alone(rows: Sequence[dict[str, str]], window: int) -> str:
    """The step size with which the outcome alone comes furthest, of those that as many seeds have as the first."""
    alone = [row["method"] for row in rows if row["method"].startswith("outcome") and "+" not in row["method"]]
    whole = [name for name in dict.fromkeys(alone) if alone.count(name) == alone.count("outcome")]
    return max(whole, key=lambda name: middle(rows, name, window)[-1][1])
