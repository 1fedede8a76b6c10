"""What every intrinsic bonus costs beside PPO, and how many steps it takes with each to solve KeyCorridorS3R3.

    python benchmarks/bonuses.py --cost             # training throughput with and without, 1,024 environments
    python benchmarks/bonuses.py --solve            # five seeds of each; goes on where it was when started again
    python benchmarks/bonuses.py --table            # only write the tables and the picture anew

Every bonus is ``task + self_scaled(bonus)``, which has no weight to choose: bonuses are compared, and not weights.

Cost: PPO as its defaults have it, with the task's reward and with the bonus, take turns, in one process; lost is the
share of steps per second that the bonus takes, by the clock and by CPU seconds (which other programs disturb less).
"Share trained on" is how many of the rows the bonus trains its networks on.

Solve: PPO with the settings of ``cairn bench solve``. Every 98,304 steps the frozen policy plays 100 fresh levels (one
and the same schedule for all); solved is the first time that 95 of them succeed. A cell that has not by the budget
counts as infinite. Steps do not depend on what else the machine does; seconds do, so CPU seconds stand beside them (one
thread). RepExp takes the representation of a PPO policy trained before on KeyCorridorS3R1, whose steps and CPU seconds
are in the cell as well. A cell is of one bonus, seed, reward, budget and settings: after a change of these the old
cells stay in the CSV and out of the table.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch, fresh_seed, own_randomness
from cairn.agents.training import acting
from cairn.benchmarks.solve import SETTINGS, words
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import BatchEnv
from cairn.shaping import BONUSES, RepExp, SelfScaled, Task, parse
from cairn.shaping.term import nodes_of

TASK, EASIER = "cairn/MiniGrid-KeyCorridorS3R3-v0", "cairn/MiniGrid-KeyCorridorS3R1-v0"
EVERY, LEVELS, GOAL = 98_304, 100, 0.95
LANES = 64  # of the benchmarks of language models, which take what else stands here too
BUDGET, PRETRAINING = 26 * EVERY, 3 * EVERY
TERMS = {
    "first_visits": 'episodic_count(key="position", mode="first")',
    **{name: text.split("*", 1)[1] for name, text in BONUSES.items() if name != "none"},
}
ALL = {"none": BONUSES["none"], **{name: f"task + self_scaled({text})" for name, text in TERMS.items()}}
COST = ["bonus", "reward", "environments", "threads", "round"]
SOLVE = ["bonus", "seed", "reward", "budget", "settings"]
COUNTS = ("count", "episodic_count", "first_visits")


# ---- cost ----------------------------------------------------------------------------------------------


def model_for(reward: Any, lanes: int, seed: int, env: str = TASK, **settings: Any) -> PPO:
    """PPO on the task with a reward, a text or an expression; what is not set is PPO's default."""
    envs = gym.make_vec(env, num_envs=lanes, device="cpu")
    return PPO("MlpPolicy", envs, reward=parse(reward) if isinstance(reward, str) else reward, seed=seed, **settings)


def share_of(model: PPO) -> float | None:
    """The largest share of rows that a term of the model's reward trains on; None where nothing is trained."""
    assert model.reward is not None
    nodes = [node for node in nodes_of(model.reward.term) if node.text_name not in ("rep_exp", "self_scaled")]
    shares = [getattr(node, "share", None) for node in nodes]
    return max((s for s in shares if s is not None), default=None)


def spend(model: PPO, rollouts: int) -> tuple[float, float]:
    """Train for some rollouts: seconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    model.learn(rollouts * model.n_steps * model.n_envs, reset_num_timesteps=False)
    return time.perf_counter() - wall, time.process_time() - cpu


def cost(args: argparse.Namespace, cells: Cells) -> None:
    """Measure what is missing of the cost table."""
    torch.set_num_threads(args.threads)
    for name in args.only or [n for n in ALL if n != "none"]:
        key = {"bonus": name, "reward": ALL[name], "environments": args.envs, "threads": args.threads}
        todo = [r for r in range(args.rounds) if not cells.done({**key, "round": r})]
        if not todo:
            continue
        plain, shaped = model_for("task", args.envs, 0), model_for(ALL[name], args.envs, 0)
        rows = plain.n_steps * plain.n_envs
        for model in (plain, shaped):  # warm up: kernels, tables, the terms' own warm-up
            spend(model, 3)
        for turn in todo:
            without, with_it = [0.0, 0.0], [0.0, 0.0]
            for _ in range(args.rollouts):
                for sums, model in ((without, plain), (with_it, shaped)):
                    for i, seconds in enumerate(spend(model, 1)):
                        sums[i] += seconds
            share = share_of(shaped)
            row = {
                **key, "round": turn, "steps": args.rollouts * rows, "seconds_without": round(without[0], 4),
                "seconds_with": round(with_it[0], 4), "cpu_without": round(without[1], 4),
                "cpu_with": round(with_it[1], 4), "share_trained_on": "" if share is None else share,
            }  # fmt: skip
            cells.add(row)
            lost = 1 - without[0] / with_it[0], 1 - without[1] / with_it[1]
            print(
                f"{name:16} round {turn}: PPO alone {row['steps'] / without[0]:9,.0f} steps/s, with the bonus "
                f"{row['steps'] / with_it[0]:9,.0f}; lost {lost[0]:6.1%} by the clock, {lost[1]:6.1%} by CPU; "
                f"share trained on {'-' if share is None else share}",
                flush=True,
            )


def cost_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The cost table in Markdown: medians over rounds."""
    lines = [
        "| bonus | PPO alone, steps/s | with it | lost, clock | lost, CPU | at most | share trained on |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["bonus"] for row in rows):
        mine = [{k: float(v) for k, v in row.items() if k in NUMBERS} for row in rows if row["bonus"] == name]
        alone = statistics.median(r["steps"] / r["seconds_without"] for r in mine)
        both = statistics.median(r["steps"] / r["seconds_with"] for r in mine)
        clock = statistics.median(1 - r["seconds_without"] / r["seconds_with"] for r in mine)
        cpu = statistics.median(1 - r["cpu_without"] / r["cpu_with"] for r in mine)
        share = next(row["share_trained_on"] for row in rows if row["bonus"] == name) or "-"
        limit = "10 %" if name in COUNTS else "35 %"
        lines.append(f"| {name} | {alone:,.0f} | {both:,.0f} | {clock:.1%} | {cpu:.1%} | {limit} | {share} |")
    return "\n".join(lines)


NUMBERS = ("steps", "seconds_without", "seconds_with", "cpu_without", "cpu_with")


# ---- solve ---------------------------------------------------------------------------------------------


def solver(reward: Any, seed: int, env: str = TASK) -> PPO:
    """PPO with the settings of ``cairn bench solve``."""
    settings = {name: value for name, value in SETTINGS.items() if name != "num_envs"}
    return model_for(reward, SETTINGS["num_envs"], seed, env, **settings)


def solve_cell(name: str, seed: int, budget: int) -> dict[str, object]:
    """One seed of one bonus: train until solved or the budget is spent."""
    wall, cpu, before = time.perf_counter(), time.process_time(), 0
    reward: Any = ALL[name]
    if name == "rep_exp":
        teacher = solver(ALL["noveld"], seed, EASIER).learn(PRETRAINING)
        reward, before = Task() + SelfScaled(RepExp(teacher)), teacher.num_timesteps
    model = solver(reward, seed)
    trial = gym.make_vec(TASK, num_envs=LEVELS, device="cpu")
    assert isinstance(trial, BatchEnv)
    curve: list[tuple[int, float]] = []
    while model.num_timesteps < budget and not (curve and curve[-1][1] >= GOAL):
        model.learn(EVERY, reset_num_timesteps=not curve)
        fresh = fresh_seed(seed, "bonuses", model.num_timesteps)
        with own_randomness(fresh):
            success = evaluate_batch(acting(model, False), trial, LEVELS, fresh).success
        assert success is not None
        curve.append((model.num_timesteps, success))
        seconds = time.perf_counter() - wall
        print(
            f"\r{name:16} seed {seed}: {curve[-1][0]:9,} steps, {success:4.0%}, {seconds:6.0f} s ", end="", flush=True
        )
    solved = curve[-1][1] >= GOAL
    print("solved" if solved else "not solved", flush=True)
    return {
        **cell(name, seed, budget), "solved": int(solved),
        "steps": curve[-1][0] if solved else "inf", "seconds_under_load": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1), "pretraining_steps": before,
        "curve": " ".join(f"{step}:{success:.2f}" for step, success in curve),
    }  # fmt: skip


def cell(name: str, seed: int, budget: int) -> dict[str, object]:
    """The columns that name a cell."""
    return {"bonus": name, "seed": seed, "reward": ALL[name], "budget": budget, "settings": words(SETTINGS)}


def solve(args: argparse.Namespace, cells: Cells) -> None:
    """Run the cells that are missing: the first seed of every bonus, then the second ..."""
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        for name in args.only or ALL:
            if not cells.done(cell(name, seed, args.budget)):
                cells.add(solve_cell(name, seed, args.budget))
                render(args.out, args.budget)


def solve_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The table in Markdown: steps and CPU seconds to solve, IQM over seeds with its interval."""
    lines = [
        "| bonus | reward | solved | steps, IQM | 95 % interval | CPU seconds, IQM | pretraining steps |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in sorted({row["bonus"] for row in rows}, key=list(ALL).index):
        mine = [row for row in rows if row["bonus"] == name]
        steps = [float(row["steps"]) for row in mine]
        cpu = [float(row["cpu_seconds"]) if int(row["solved"]) else float("inf") for row in mine]
        low, high = interval(steps)
        before = max(int(row["pretraining_steps"]) for row in mine)
        most = float(mine[0]["budget"])
        lines.append(
            f"| {name} | `{mine[0]['reward']}` | {sum(int(row['solved']) for row in mine)} of {len(mine)} "
            f"| {amount(iqm(steps), most)} | {amount(low, most)} to {amount(high, most)} "
            f"| {amount(iqm(cpu), None)} | {before:,} |"
        )
    return "\n".join(lines)


def amount(value: float, most: float | None) -> str:
    """A number, or that there is none within the budget."""
    if value < float("inf"):
        return f"{value:,.0f}"
    return "-" if most is None else f"> {most:,.0f}"


def picture(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Success over steps, the mean over seeds; a run that has been stopped keeps its last value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(sorted({row["bonus"] for row in rows}, key=list(ALL).index)):
        curves = [
            [float(point.split(":")[1]) for point in row["curve"].split()] for row in rows if row["bonus"] == name
        ]
        longest = max(len(curve) for curve in curves)
        filled = [curve + [curve[-1]] * (longest - len(curve)) for curve in curves]
        mean = [sum(column) / len(column) for column in zip(*filled)]
        steps = [EVERY * (k + 1) / 1e6 for k in range(longest)]
        axes.plot(steps, mean, label=f"{name} ({len(curves)})", color=f"C{i % 10}", ls=("-", "--")[i // 10])
    axes.set(xlabel="million steps", ylabel="success on fresh levels", ylim=(0, 1), title=TASK)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=110)


# ---- both ----------------------------------------------------------------------------------------------


def render(out: Path, budget: int) -> None:
    """Write the tables and the picture from the cells that are there."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    parts = [f"Written by `python benchmarks/bonuses.py`. {facts}."]
    costs, solves = Cells(out / "cost.csv", COST).rows(), Cells(out / "solve.csv", SOLVE).rows()
    costs, solves = ([row for row in rows if row["reward"] == ALL.get(row["bonus"])] for rows in (costs, solves))
    solves = [row for row in solves if int(row["budget"]) == budget and row["settings"] == words(SETTINGS)]
    if costs:
        first = costs[0]
        parts += [
            f"## Cost at {int(first['environments']):,} environments, {first['threads']} threads, {TASK}",
            cost_table(costs),
        ]
    if solves:
        parts += [
            f"## Solving {TASK}",
            f"PPO with {words(SETTINGS)}, one thread; frozen policy on {LEVELS} fresh levels every {EVERY:,} steps, "
            f"solved at {GOAL:.0%}. A run that did not get there counts as infinitely many steps.",
            solve_table(solves),
            "![success over steps](curves.png)",
        ]
        picture(solves, out / "curves.png")
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="measure what each bonus costs")
    parser.add_argument("--solve", action="store_true", help="train with each until solved")
    parser.add_argument("--table", action="store_true", help="write tables and picture from what is there")
    parser.add_argument("--only", nargs="+", choices=list(ALL), default=None, help="these bonuses")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=BUDGET, help="steps after which a run has not solved it")
    parser.add_argument("--envs", type=int, default=1024, help="environments of the cost")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads for the cost")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=8, help="of each kind, in turns, in a round of the cost")
    parser.add_argument("--out", type=Path, default=RESULTS / "bonuses")
    args = parser.parse_args(argv)
    if not (args.cost or args.solve or args.table):
        parser.error("say --cost, --solve or --table")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if args.cost:
        cost(args, Cells(args.out / "cost.csv", COST))
    if args.solve:
        solve(args, Cells(args.out / "solve.csv", SOLVE))
    render(args.out, args.budget)
    print((args.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
