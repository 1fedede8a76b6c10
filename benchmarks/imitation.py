"""Imitation: IQ-Learn from one demonstration, off-policy adversarial imitation without its penalty, PPO beside two.

    python benchmarks/imitation.py iq               # CartPole and two grids, one demonstration: cloning, IQ-Learn
    python benchmarks/imitation.py iq --tasks LunarLander-v3    # the same; needs Box2D, of the extra bench
    python benchmarks/imitation.py adversarial      # with and without the gradient penalty, five seeds
    python benchmarks/imitation.py demos            # PPO alone and beside 2, 10, 100 trajectories of three qualities
    python benchmarks/imitation.py --table          # only print the tables anew

Each goes on where it was when started again: a cell is one setting and seed. Returns and success are of the frozen
policy on fresh episodes, at the end and as the mean over the run's trials (a measure of how soon). Demonstrations of
"adversarial" are of the scripted controller (Pendulum) or of a linear one that random search finds here in
``--expert-steps``, and are kept in the results' folder. The imitators are TD3, as the published ones, or SAC; their
networks have two layers of ``--units``, their minibatches ``--rows``; a table of its own tells its cells apart by all
of these. Those of "demos" are shortest solutions; "middle" and "low" ones begin with so many random steps that half, or
nine tenths, of the time that the longest solution leaves is gone.
"""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

import cairn  # noqa: F401  (registers the ids)
from cairn.agents import PPO
from cairn.agents.data import Demonstrations, collect
from cairn.agents.data.collecting import Actor
from cairn.agents.data.controllers import CONTROLLERS, scripted
from cairn.agents.evaluation import evaluate_batch, fresh_seed
from cairn.agents.imitation import BC, AdversarialSAC, AdversarialTD3, DemoPPO, IQLearn
from cairn.agents.training import acting
from cairn.benchmarks.linear_experts import search
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import BatchEnv, make_batch
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.planner import shortest_plans

KEYS = ["part", "task", "setting", "seed", "steps"]
SIZES = ["agent", "units", "rows", "expert_steps"]
"""What else tells cells of "adversarial" apart."""
LANES = 32
IQ: dict[str, dict[str, Any]] = {
    "bc": {},
    "iq_offline": {"online": False},
    "iq_online": {"online": True, "values": "expert"},
    "iq_online_all": {"online": True, "values": "all"},
}
ADVERSARIAL: dict[str, dict[str, Any]] = {
    "penalty": {"penalty": 10.0},
    "none": {"penalty": 0.0},
    "penalty_spectral": {"penalty": 10.0, "spectral": True},
    "spectral": {"penalty": 0.0, "spectral": True},
    "purple": {"penalty": 10.0, "purple": True},
}
BESIDE: dict[str, dict[str, Any]] = {
    "pretrain": {"pretrain": 3000},
    "beside": {"beside": 5},
    "fixed_balance": {"balance": 0.3},
    "learned_balance": {"balance": "learned"},
}
OPTIONS = {
    "pretrain": "cloning before", "beside": "cloning beside", "fixed_balance": "fixed balance",
    "learned_balance": "learned balance",
}  # fmt: skip
WASTED = {"optimal": 0.0, "middle": 0.5, "low": 0.9}  # of the time that a solution leaves
GRIDS = (
    "cairn/MiniGrid-MultiRoom-N6-v0",
    "cairn/MiniGrid-ObstructedMaze-1Dlhb-v0",
    "cairn/MiniGrid-KeyCorridorS3R3-v0",
)


def run(model: Any, test: BatchEnv, steps: int, trials: int, episodes: int) -> dict[str, float]:
    """Train in so many parts with a trial after each: the last trial, the mean of all, CPU seconds."""
    began, seen = time.process_time(), []
    for k in range(trials):
        part = steps * (k + 1) // trials - steps * k // trials
        model.learn(part, reset_num_timesteps=k == 0)
        trial = evaluate_batch(acting(model, False), test, episodes, fresh_seed(k, "imitation"))
        seen.append((trial.return_mean, trial.success or 0.0))
    mean = [sum(column) / trials for column in zip(*seen)]
    return {
        "return": round(seen[-1][0], 4), "success": seen[-1][1], "return_mean": round(mean[0], 4),
        "success_mean": round(mean[1], 4), "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


# ---- one demonstration -------------------------------------------------------------------------------------


def iq(setting: str, task: str, seed: int, steps: int, args: argparse.Namespace) -> dict[str, float]:
    """Cloning or IQ-Learn from one episode; a step of cloning is a minibatch."""
    if task.startswith("cairn/MiniGrid-"):
        grid = GridBatch(task.removeprefix("cairn/"), 1)
        demos = collect(late_solver(grid, 0, seed), grid, 1, seed=seed, only_success=True)
    else:
        tries = 5 if task == "LunarLander-v3" else 1  # whose controller crashes now and then: the best of five
        demos = collect(scripted(task), make_batch(task, 1), tries, seed=seed).split(tries)[-1]
    test = make_batch(task, 20)
    if setting == "bc":
        return run(BC("MlpPolicy", task, demos, batch_size=32, seed=seed), test, 32 * steps, args.trials, 20)
    common: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 32, "train_freq": 1, "seed": seed}
    model = IQLearn("MlpPolicy", make_batch(task, 1), demos, **common, **IQ[setting])
    return run(model, test, steps, args.trials, 20)


# ---- off-policy, with and without the penalty ---------------------------------------------------------------


def expert_of(task: str, args: argparse.Namespace) -> Demonstrations:
    """Four demonstrations, made once."""
    short = task.split("/")[-1]
    folder = RESULTS / "imitation" / (short if task in CONTROLLERS else f"{short}-{args.expert_steps}")
    if folder.exists():
        return Demonstrations.load(folder)
    actor: Actor = scripted(task) if task in CONTROLLERS else search(task, args.expert_steps)[0]
    demos = collect(actor, make_batch(task, 4), 4, seed=0)
    demos.save(folder)
    return demos


def adversarial(setting: str, task: str, seed: int, steps: int, args: argparse.Namespace) -> dict[str, float]:
    """An update for each step; the discriminator learns from a minibatch for every four of the agent's."""
    shown, envs, settings = expert_of(task, args), make_batch(task, LANES), ADVERSARIAL[setting]
    common: dict[str, Any] = {
        "batch_size": args.rows, "gradient_steps": -1, "learning_starts": 1000, "reward_freq": 64 // LANES,
        "policy_kwargs": {"net_arch": [args.units] * 2}, "seed": seed,
    }  # fmt: skip
    model = (
        AdversarialSAC("MlpPolicy", envs, shown, settings, **common)
        if args.agent == "sac"
        else AdversarialTD3("MlpPolicy", envs, shown, settings, action_noise=0.1, **common)
    )
    return {"expert": round(float(shown.returns.mean()), 1), **run(model, make_batch(task, 10), steps, args.trials, 10)}


# ---- PPO beside demonstrations ------------------------------------------------------------------------------


def late_solver(env: GridBatch, wasted: int, seed: int) -> Actor:
    """Random for ``wasted`` steps, by draws of its own, then the shortest solution from there."""
    plans: list[list[int]] = []
    t, draws = 0, torch.Generator().manual_seed(seed)

    def act(obs: Any, info: Mapping[str, Any]) -> Tensor:
        nonlocal t
        t = 0 if "_final_obs" not in info else t + 1
        if t < wasted:
            return torch.randint(6, (env.num_envs,), generator=draws)
        if t == wasted:
            plans[:] = [plan or [] for plan in shortest_plans(env)]
        return torch.tensor([plan[t - wasted] if t - wasted < len(plan) else 0 for plan in plans])

    return act


@functools.cache  # several settings share them
def trajectories(task: str, count: int, quality: str, seed: int) -> Demonstrations:
    """So many, optimal ones or worse."""
    env = GridBatch(task.removeprefix("cairn/"), min(count, 20))
    wasted = 0
    if share := WASTED[quality]:
        env.reset(seed=seed)
        longest = max(len(plan or []) for plan in shortest_plans(env))
        wasted = int(share * ((env.max_steps or 0) - longest))
    return collect(late_solver(env, wasted, seed), env, count, seed=seed, only_success=True)


def demos(setting: str, task: str, seed: int, steps: int, args: argparse.Namespace) -> dict[str, float]:
    """PPO alone or with an option and some trajectories."""
    envs, test = gym.make_vec(task, num_envs=64, device="cpu"), gym.make_vec(task, num_envs=100, device="cpu")
    assert isinstance(test, BatchEnv)
    if setting == "ppo":
        return run(PPO("MlpPolicy", envs, seed=seed), test, steps, args.trials, 100)
    option, count, quality = setting.split("-")
    shown = trajectories(task, int(count), quality, seed)
    model = DemoPPO("MlpPolicy", envs, shown, seed=seed, **BESIDE[option])
    return run(model, test, steps, args.trials, 100)


PARTS: dict[str, tuple[Any, list[str], list[str], int]] = {
    "iq": (iq, ["CartPole-v1", "cairn/MiniGrid-Empty-5x5-v0", "cairn/MiniGrid-Empty-6x6-v0"], list(IQ), 20_000),
    "adversarial": (
        adversarial, ["cairn/HalfCheetah-v5", "cairn/Hopper-v5", "cairn/Walker2d-v5"], list(ADVERSARIAL), 300_000,
    ),
    "demos": (
        demos,
        list(GRIDS),
        ["ppo", *(f"{o}-{n}-{q}" for o in BESIDE for n in (2, 10, 100) for q in WASTED)],
        2_000_000,
    ),
}  # fmt: skip


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """IQM over seeds with its interval, in Markdown."""
    lines = ["| part | task | setting | steps | seeds | return | success | mean return of the run | CPU s |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for cell in dict.fromkeys(tuple(row[k] for k in ("part", "task", "setting", "steps")) for row in rows):
        mine = [r for r in rows if tuple(r[k] for k in ("part", "task", "setting", "steps")) == cell]
        column = {k: [float(r[k]) for r in mine] for k in ("return", "success", "return_mean", "cpu_seconds")}
        low, high = interval(column["return"])
        part, task, setting, steps = cell
        success = f"{iqm(column['success']):.0%}" if "MiniGrid" in task else ""  # elsewhere nothing says so
        lines.append(
            f"| {part} | {task} | {setting} | {steps} | {len(mine)} | {iqm(column['return']):.3g} ({low:.3g} to "
            f"{high:.3g}) | {success} | {iqm(column['return_mean']):.3g} | "
            f"{sum(column['cpu_seconds']) / len(mine):.0f} |"
        )
    return "\n".join(lines)


def adversarial_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns of the demonstrations and with each setting, IQM over seeds with its interval, in Markdown."""
    lines = [
        "| task | setting | steps | learner, units, rows | seeds | shown | return | mean return of the run | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = ("task", "setting", "steps", *SIZES)
    for cell in sorted({tuple(row[k] for k in names) for row in rows}):
        mine = [r for r in rows if tuple(r[k] for k in names) == cell]
        column = {k: [float(r[k]) for r in mine] for k in ("expert", "return", "return_mean", "cpu_seconds")}
        low, high = interval(column["return"])
        task, setting, steps, agent, units, batch, _ = cell
        lines.append(
            f"| {task} | {setting} | {steps} | {agent}, {units}, {batch} | {len(mine)} | {column['expert'][0]:.0f} | "
            f"{iqm(column['return']):.0f} ({low:.0f} to {high:.0f}) | {iqm(column['return_mean']):.0f} | "
            f"{sum(column['cpu_seconds']) / len(mine):.0f} |"
        )
    return "\n".join(lines)


def demos_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Success on fresh levels: a line for each setting, a column for each task, IQM and (least to greatest)."""
    mine = [row for row in rows if row["part"] == "demos"]
    tasks = sorted({row["task"] for row in mine})
    names = [task.removeprefix("cairn/MiniGrid-").removesuffix("-v0") for task in tasks]
    lines = [f"| PPO | {' | '.join(names)} |", "|---|" + "---:|" * len(tasks)]
    known = {setting: k for k, setting in enumerate(PARTS["demos"][2])}
    for setting in sorted({row["setting"] for row in mine}, key=known.__getitem__):
        option, _, count = setting.partition("-")
        words = f"{OPTIONS[option]}, {count.replace('-', ' ')}" if count else "alone"
        cells = []
        for task in tasks:
            found = [float(row["success"]) for row in mine if (row["task"], row["setting"]) == (task, setting)]
            spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
            cells.append(f"{iqm(found):.2f}{spread}" if found else "")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def short_table() -> str:
    """The table of trajectories beside PPO that the page of results has."""
    return demos_table(Cells(RESULTS / "imitation" / "cells.csv", KEYS).rows())


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing of a part, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=list(PARTS))
    parser.add_argument("--tasks", nargs="*")
    parser.add_argument("--settings", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=lambda text: int(float(text)))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--expert-steps", type=lambda text: int(float(text)), default=1_500_000)
    parser.add_argument("--agent", choices=["td3", "sac"], default="td3", help="which learner imitates in adversarial")
    parser.add_argument("--units", type=int, default=256, help="width of adversarial's networks")
    parser.add_argument("--rows", type=int, default=256, help="rows of adversarial's minibatches")
    parser.add_argument("--out", type=Path, help="cells.csv, or adversarial.csv, in the results' folder")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    has_sizes = args.part == "adversarial"
    folder = RESULTS / "imitation" if args.out is None else args.out.parent
    cells = Cells(args.out or folder / ("adversarial.csv" if has_sizes else "cells.csv"), KEYS + SIZES * has_sizes)
    if args.part and not args.table:
        work, tasks, settings, steps = PARTS[args.part]
        for name in args.settings or []:
            if name not in settings:
                parser.error(f"{args.part} has no setting {name!r}; there are {', '.join(settings)}")
        for name, version in machine().items():
            print(f"{name}: {version}")
        for seed in range(args.seeds):
            for task in args.tasks or tasks:
                for setting in args.settings or settings:
                    key = {"part": args.part, "task": task, "setting": setting, "seed": seed,
                           "steps": args.steps or steps}  # fmt: skip
                    if has_sizes:
                        key |= {name: getattr(args, name) for name in SIZES}
                    if cells.done(key):
                        continue
                    row = {**key, **work(setting, task, seed, args.steps or steps, args)}
                    cells.add(row)
                    print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
    text = "# Imitation\n\nIQM over seeds, 95 % interval.\n"
    for name, written in (("cells.csv", table), ("adversarial.csv", adversarial_table)):
        if (folder / name).exists():
            text += f"\n{written(Cells(folder / name, KEYS).rows())}\n"
    (folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
