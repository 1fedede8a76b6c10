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
from collections.abc import Sequence
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
        for agent in AGENTS:
            at = {"task": task, "steps": given.steps, "num_envs": given.num_envs, "agent": agent}
            rows = [row for row in cells.rows() if all(row[k] == str(v) for k, v in at.items())]
            for name in ("final", "training", "seconds", "cpu_seconds"):
                values = [float(row[name]) for row in rows]
                low, high = interval(values)
                print(f"{task} {agent:5} {name:11} IQM {iqm(values):10,.1f}  95 % [{low:,.1f}, {high:,.1f}]  "
                      f"of {len(values)} seeds", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
