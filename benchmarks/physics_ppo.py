"""PPO on MuJoCo: ours on ``cairn/HalfCheetah-v5`` and ``cairn/Ant-v5``, Stable-Baselines3's on Gymnasium's own.

    cairn bench physics_ppo                                        # 2 tasks x 2 agents x 5 seeds of 1,000,000 steps
    cairn bench physics_ppo --steps 160000                         # about 40 minutes of one core
    cairn bench physics_ppo --tasks HalfCheetah-v5 --seeds 1 --steps 8192 --out /tmp/pilot

Both have the same hyperparameters (Stable-Baselines3's defaults with ``--num-envs`` environments: 2,048 steps a
rollout, minibatches of 64, 10 epochs, learning rate 3e-4), the same networks, raw observations and rewards. The two
agents of a seed run one after the other, so that what else the machine does concerns both. ``final`` is the mean
return of 20 episodes of the last policy, greedily, on Gymnasium's own environment for both; curves are the mean return
of the last 100 training episodes after each rollout. A cell that is in the table is not run again.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO as Theirs
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import cairn  # noqa: F401  (registers the ids)
from cairn.agents import PPO as Ours
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine

TASKS = ("HalfCheetah-v5", "Ant-v5")
AGENTS = ("cairn", "sb3")


class Curve(BaseCallback):
    """Keeps (steps, mean return of recent episodes, seconds), and says how far it is."""

    def __init__(self, name: str, steps: int) -> None:
        super().__init__()
        self.name, self.steps, self.began = name, steps, time.perf_counter()
        self.points: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes, taken = self.model.ep_info_buffer, self.model.num_timesteps
        mean = float(np.mean([episode["r"] for episode in episodes])) if episodes else float("nan")
        self.points.append((taken, round(mean, 2), round(time.perf_counter() - self.began, 2)))
        print(f"  {self.name}: {taken:,} of {self.steps:,} steps, return {mean:.0f}   ", end="\r", flush=True)


def make(agent: str, task: str, seed: int, num_envs: int) -> Any:
    """An agent that has not learned yet."""
    same: dict[str, Any] = {
        "learning_rate": 3e-4,
        "n_steps": 2048 // num_envs,
        "batch_size": 64,
        "n_epochs": 10,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "ent_coef": 0.0,
        "seed": seed,
        "device": "cpu",
    }
    if agent == "cairn":
        batch: Any = gym.make_vec(f"cairn/{task}", num_envs=num_envs, dtype="float32")
        return Ours("MlpPolicy", batch, **same)
    return Theirs("MlpPolicy", make_vec_env(task, num_envs, seed=seed), **same)


def run(agent: str, task: str, seed: int, steps: int, num_envs: int, out: Path) -> dict[str, Any]:
    """Train and evaluate one agent; its curve goes into a file."""
    curve = Curve(f"{task} {agent} seed {seed}", steps)
    model = make(agent, task, seed, num_envs)
    cpu, began = time.process_time(), time.perf_counter()
    model.learn(steps, callback=curve)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    final, spread = evaluate_policy(model, Monitor(gym.make(task)), 20, deterministic=True)
    name = f"{task}-{agent}-{seed}-{steps}.json"
    (out / "curves").mkdir(parents=True, exist_ok=True)
    (out / "curves" / name).write_text(json.dumps(curve.points) + "\n", encoding="utf-8")
    return {
        "taken": model.num_timesteps,
        "final": f"{final:.2f}",
        "spread": f"{spread:.2f}",
        "training": curve.points[-1][1],
        "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{cpu:.1f}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the table does not have, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="upstream's ids")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads, of both")
    parser.add_argument("--out", type=Path, default=RESULTS / "physics_ppo")
    given = parser.parse_args(argv)
    if given.num_envs < 1 or 2048 % given.num_envs:
        parser.error(f"--num-envs {given.num_envs}: it divides 2048")
    torch.set_num_threads(given.threads)
    print("  ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    cells = Cells(given.out / "cells.csv", ["task", "steps", "num_envs", "seed", "agent"])
    for task in given.tasks:
        for seed in range(given.seeds):
            for agent in AGENTS:
                key = {"task": task, "steps": given.steps, "num_envs": given.num_envs, "seed": seed, "agent": agent}
                if not cells.done(key):
                    cells.add({**key, **run(agent, task, seed, given.steps, given.num_envs, given.out)})
        print(table(cells.rows(), [task], given.steps, given.num_envs), flush=True)
    render(given.out, cells.rows(), given.tasks, given.steps, given.num_envs)


def of(rows: Sequence[Mapping[str, str]], task: str, steps: int, num_envs: int, agent: str) -> list[Mapping[str, str]]:
    """The cells of one task and agent, a row for each seed."""
    at = {"task": task, "steps": str(steps), "num_envs": str(num_envs), "agent": agent}
    return [row for row in rows if at.items() <= row.items()]


def table(rows: Sequence[Mapping[str, str]], tasks: Sequence[str], steps: int, num_envs: int) -> str:
    """IQM over seeds and its interval, in Markdown."""
    lines = ["| task | agent | seeds | final return | training return | seconds | CPU seconds |", "|---" * 7 + "|"]
    for task in tasks:
        for agent in AGENTS:
            mine = of(rows, task, steps, num_envs, agent)
            shown = []
            for name in ("final", "training", "seconds", "cpu_seconds"):
                values = [float(row[name]) for row in mine]
                low, high = interval(values)
                shown.append(f"{iqm(values):,.0f} ({low:,.0f} to {high:,.0f})")
            lines.append(f"| {task} | {agent} | {len(mine)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def render(out: Path, rows: Sequence[Mapping[str, str]], tasks: Sequence[str], steps: int, num_envs: int) -> None:
    """Write the table, and the curves as a picture: all seeds thin, their mean bold, by steps and by seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for axes, task in zip(grid, tasks):
        for colour, agent in enumerate(AGENTS):
            names = [f"{task}-{agent}-{row['seed']}-{steps}.json" for row in of(rows, task, steps, num_envs, agent)]
            curves = np.array([json.loads((out / "curves" / name).read_text(encoding="utf-8")) for name in names])
            for curve in curves:
                for axis, column in zip(axes, (0, 2)):
                    axis.plot(curve[:, column], curve[:, 1], color=f"C{colour}", alpha=0.3, lw=0.8)
            mean = curves.mean(0)
            for axis, column in zip(axes, (0, 2)):
                axis.plot(mean[:, column], mean[:, 1], color=f"C{colour}", label=f"{agent} ({len(curves)} seeds)")
        axes[0].xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:g}k")
        for axis, what in zip(axes, ("steps", "seconds, the machine shared with other work")):
            axis.set(title=task, xlabel=what, ylabel="return of the last 100 episodes")
            axis.legend()
    figure.savefig(out / "curves.png", dpi=90)
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    told = (
        f"Written by `cairn bench physics_ppo --steps {steps}`. {facts}.\n\nThe same hyperparameters, raw observations "
        "and rewards; final is the mean return of 20 episodes of the last policy, greedy, on Gymnasium's environment. "
        "IQM over seeds and its 95 % bootstrap interval.\n\n"
    )
    (out / "README.md").write_text(
        f"{told}{table(rows, tasks, steps, num_envs)}\n\n![curves](curves.png)\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
