"""What oni, calm and beacons share: steps and CPU seconds to solve by how often the giver is right, and the tables.

PPO is ``cairn bench solve``'s, with its one setting (512 environments) on one thread. Solved is that the frozen policy
passes 95 % of 1,000 fresh levels, tried every 98,304 steps where training is within a tenth of that; a cell that has
not by the budget counts as infinite. CPU seconds are of training, without trials.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch, fresh_seed, own_randomness
from cairn.agents.training import acting
from cairn.benchmarks.solve import SETTINGS, words
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import BatchEnv
from cairn.shaping import Term
from cairn.shaping.language import Question

TASK = "cairn/MiniGrid-KeyCorridorS3R3-v0"
EVERY, LEVELS, GOAL, NEAR = 98_304, 1000, 0.95, 0.1
BUDGET = 25 * EVERY
ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_EVENT = re.compile(r"The (?:first |second )?event: (.*?)\n")
KEY = ("reward", "seed", "budget", "settings")
SHOWN = (
    ("oni/solve.csv", "classification", "ONI, labels classified"),
    ("beacons/KeyCorridorS3R3-v0.csv", "object", "Words as Beacons, objects"),
    ("calm/solve.csv", "calm", "CALM, verdicts"),
)


def model_for(reward: Term, seed: int, envs: BatchEnv | None = None, lanes: int = SETTINGS["num_envs"]) -> PPO:
    """PPO with the solve table's setting, on the task or on another batch."""
    batch = gym.make_vec(TASK, num_envs=lanes, device="cpu") if envs is None else envs
    settings = {k: v for k, v in SETTINGS.items() if k != "num_envs"}
    return PPO("MlpPolicy", batch, reward=reward, seed=seed, **settings)


def judged(question: Question, worth: Callable[[str], int]) -> Any:
    """The right label, or preference, for a question of ONI's, by how great a step each event's caption tells of."""
    events = _EVENT.findall(question.messages[-1]["content"])
    if len(events) == 1:
        return {"label": "helpful" if worth(events[0]) else "not helpful"}
    first, second = map(worth, events)
    return {"better": "neither" if first == second else "first" if first > second else "second"}


def others(question: Question, value: Any) -> list[Any]:
    """The wrong answers, whichever way the question was put."""
    words = ["helpful", "not helpful"] if "label" in value else ["first", "second", "neither"]
    (name,) = value
    return [{name: word} for word in words if word != value[name]]


def cell(name: str, seed: int, budget: int) -> dict[str, object]:
    """The columns that name a cell: of other settings it is another one."""
    return {"reward": name, "seed": seed, "budget": budget, "settings": words(SETTINGS)}


def of_now(rows: Sequence[dict[str, str]], budget: int) -> list[dict[str, str]]:
    """The rows of this budget and of the settings as they are now."""
    return [r for r in rows if int(r["budget"]) == budget and r["settings"] == words(SETTINGS)]


def labels_of(model: PPO) -> dict[str, float]:
    """What the labels' part of a reward has to say of itself."""
    assert model.reward is not None
    node: Any = next(n for n in model.reward.order if n.name == "labels")
    return {**node.desk.health(), "captions": len(node.texts), "labelled": node.labelled}


def solve_cell(name: str, model: PPO, trial: Any, seed: int, budget: int) -> dict[str, object]:
    """One seed of one reward: train until solved in ``trial`` or the budget is spent."""
    wall, cpu = time.perf_counter(), time.process_time()
    assert isinstance(trial, BatchEnv)
    curve: list[tuple[int, float]] = []
    tried, aside, aside_cpu = 0.0, 0.0, 0.0
    while model.num_timesteps < budget and tried < GOAL:
        model.learn(EVERY, reset_num_timesteps=not curve)
        won = model.ep_success_buffer
        curve.append((model.num_timesteps, sum(won) / max(len(won or ()), 1) if won else 0.0))
        if curve[-1][1] >= GOAL - NEAR or model.num_timesteps >= budget:
            began, began_cpu = time.perf_counter(), time.process_time()
            fresh = fresh_seed(seed, "language", model.num_timesteps)
            with own_randomness(fresh):
                tried = evaluate_batch(acting(model, False), trial, LEVELS, fresh).success or 0.0
            aside, aside_cpu = aside + time.perf_counter() - began, aside_cpu + time.process_time() - began_cpu
        print(f"\r{name:20} seed {seed}: {curve[-1][0]:9,} steps, {curve[-1][1]:4.0%} ", end="", flush=True)
    solved = tried >= GOAL
    labelled = labels_of(model)["labelled"] if "labels" in [n.name for n in getattr(model.reward, "order", [])] else 0
    seconds, cpu_seconds = time.perf_counter() - wall - aside, time.process_time() - cpu - aside_cpu
    print("solved" if solved else "not solved", f"({tried:.3f}), {cpu_seconds:.0f} CPU s", flush=True)
    return {
        **cell(name, seed, budget), "solved": int(solved),
        "steps": curve[-1][0] if solved else "inf", "seconds_under_load": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1), "labels": int(labelled), "success": round(tried, 3),
        "training": " ".join(f"{step}:{success:.2f}" for step, success in curve),
    }  # fmt: skip


def solve_table(rows: Sequence[dict[str, str]], budget: int) -> str:
    """Steps and CPU seconds to solve, IQM over seeds with its interval, in Markdown."""
    lines = ["| reward | solved | steps, IQM | 95 % interval | CPU seconds, IQM |", "|---|---:|---:|---:|---:|"]
    rows = of_now(rows, budget)
    for name in dict.fromkeys(r["reward"] for r in rows):
        mine = [r for r in rows if r["reward"] == name]
        steps, cpu = spent(mine)
        low, high = interval(steps)
        lines.append(
            f"| {name} | {sum(int(r['solved']) for r in mine)} of {len(mine)} | {amount(iqm(steps), budget)} "
            f"| {amount(low, budget)} to {amount(high, budget)} | {amount(iqm(cpu), None)} |"
        )
    return "\n".join(lines)


def report(cells: Cells, budget: int, what: str) -> None:
    """Print the table of what is there, and keep it beside the cells as Markdown."""
    told = solve_table(cells.rows(), budget)
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    text = f"{what}, by {cells.path.name}; what counts as solved stands in benchmarks/dials.py. {facts}.\n\n{told}\n"
    cells.path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(told)


def spent(rows: Sequence[dict[str, str]]) -> tuple[list[float], list[float]]:
    """Steps and CPU seconds of each seed, infinite where it was not solved."""
    steps = [float(r["steps"]) for r in rows]
    return steps, [float(r["cpu_seconds"]) if int(r["solved"]) else float("inf") for r in rows]


def amount(value: float, most: float | None) -> str:
    """A number, or that there is none within the budget."""
    if value < float("inf"):
        return f"{value:,.0f}"
    return "-" if most is None else f"> {most:,.0f}"


def brief(rows: Sequence[dict[str, str]], budget: int) -> str:
    """The seeds of one cell in a word: million steps, CPU seconds, how many were solved; or nothing."""
    if not rows:
        return ""
    (steps, cpu), solved = map(iqm, spent(rows)), sum(int(r["solved"]) for r in rows)
    if steps == float("inf"):
        return f"> {budget / 1e6:.1f} M ({solved}/{len(rows)})"
    return f"{steps / 1e6:.2f} M, {cpu:.0f} s ({solved}/{len(rows)})"


def short_table() -> str:
    """A row for each way to use a giver, a column for each accuracy: million steps, CPU seconds, and seeds solved."""
    tables = {file: of_now(Cells(RESULTS / file, KEY).rows(), BUDGET) for file, _, _ in SHOWN}
    marks = sorted(ACCURACIES, reverse=True)
    lines = ["| reward | no giver | " + " | ".join(f"{a:.0%} right" for a in marks) + " |", "|---" * 8 + "|"]

    def shown(file: str, name: str) -> str:
        return brief([r for r in tables[file] if r["reward"] == name], BUDGET)

    for name, title in (("none", "PPO alone"), ("noveld", "NovelD")):
        if told := shown(SHOWN[0][0], name):
            lines.append(f"| {title} | {told} |" + " |" * len(marks))
    for file, name, title in SHOWN:
        if any(dial := [shown(file, f"{name} {a:g}") for a in marks]):
            lines.append(f"| {title} | | " + " | ".join(dial) + " |")
    return "\n".join(lines)
