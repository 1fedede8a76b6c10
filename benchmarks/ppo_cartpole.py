"""PPO on CartPole-v1: steps and seconds to a mean return of 475 over the last 100 episodes, then 100 greedy episodes.

Prints a line per seed, and over seeds the interquartile mean with a 95 % bootstrap interval. Solved means that every
seed got there and its frozen policy keeps it.

    python benchmarks/ppo_cartpole.py [--seeds 5] [--steps 300000]
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from cairn.agents import PPO
from cairn.benchmarks.tables import interval, iqm
from cairn.envs import from_gymnasium
from cairn.runs import versions

GOAL = 475.0


class Until(BaseCallback):
    """Stops at the goal, and keeps the curve."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return not self.reached

    @property
    def reached(self) -> bool:
        """Whether the last 100 episodes are good enough."""
        return len(self.curve) > 0 and self.curve[-1][1] >= GOAL

    def _on_rollout_end(self) -> None:
        recent = self.model.recent()  # type: ignore[attr-defined]
        self.curve.append((self.model.num_timesteps, recent.get("rollout/ep_rew_mean", 0.0)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300_000, help="give up after so many")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--out", type=Path, default=None, help="write rows and curves as JSON")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        watch, began = Until(), time.perf_counter()
        model = PPO("MlpPolicy", from_gymnasium("CartPole-v1", args.envs), n_epochs=args.epochs, seed=seed)
        model.learn(args.steps, callback=watch)
        seconds = time.perf_counter() - began
        mean, deviation = evaluate_policy(model, Monitor(gym.make("CartPole-v1")), 100)
        rows.append({"seed": seed, "steps": model.num_timesteps, "seconds": seconds, "reached": watch.reached,
                     "frozen": mean, "curve": watch.curve})  # fmt: skip
        print(f"seed {seed}: {'reached' if watch.reached else 'NOT reached'} after {model.num_timesteps:,} steps and "
              f"{seconds:.1f} s; frozen policy {mean:.0f} +- {deviation:.0f}", flush=True)  # fmt: skip
    for name in ("steps", "seconds", "frozen"):
        values = [float(row[name]) for row in rows]
        low, high = interval(values)
        print(f"{name}: IQM {iqm(values):,.1f}  95 % [{low:,.1f}, {high:,.1f}]  over {args.seeds} seeds")
    print(f"solved: {all(row['reached'] and row['frozen'] >= GOAL for row in rows)}")
    print(json.dumps(versions()))
    if args.out is not None:
        args.out.write_text(json.dumps({"rows": rows, "versions": versions()}, indent=1))


if __name__ == "__main__":
    main()
