"""PPO on CartPole-v1: steps and seconds to a mean return of 475 over the last 100 episodes, then 100 greedy episodes.

Prints a line per seed, and over seeds the interquartile mean with a 95 % bootstrap interval. Solved means that every
seed got there and its frozen policy keeps it.

    python benchmarks/ppo_cartpole.py [--seeds 5] [--steps 300000]
"""

import argparse
import json
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from cairn.agents import PPO
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
        self.curve.append((self.model.num_timesteps, self.model.recent().get("rollout/ep_rew_mean", 0.0)))


def iqm(values: np.ndarray) -> float:
    """Mean of the middle half; the quarters at the edges count in part (Agarwal et al. 2021, section 4.3)."""
    values, n = np.sort(values), len(values)
    edges = np.arange(n + 1) / n
    weight = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return float((weight * values).sum() / weight.sum())


def interval(values: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap of the interquartile mean."""
    rng = np.random.default_rng(0)
    means = [iqm(rng.choice(values, len(values))) for _ in range(draws)]
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300_000, help="give up after so many")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--out", type=Path, default=None, help="write rows and curves as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for seed in range(args.seeds):
        watch, began = Until(), time.perf_counter()
        model = PPO("MlpPolicy", from_gymnasium("CartPole-v1", args.envs), n_epochs=args.epochs, seed=seed)
        model.learn(args.steps, callback=watch)
        seconds = time.perf_counter() - began
        mean, deviation = evaluate_policy(model, Monitor(gym.make("CartPole-v1")), 100)
        rows.append({"seed": seed, "steps": model.num_timesteps, "seconds": seconds, "reached": watch.reached,
                     "frozen": float(mean), "curve": watch.curve})  # fmt: skip
        print(f"seed {seed}: {'reached' if watch.reached else 'NOT reached'} after {model.num_timesteps:,} steps and "
              f"{seconds:.1f} s; frozen policy {mean:.0f} +- {deviation:.0f}", flush=True)  # fmt: skip
    for name in ("steps", "seconds", "frozen"):
        values = np.array([row[name] for row in rows], float)
        low, high = interval(values)
        print(f"{name}: IQM {iqm(values):,.1f}  95 % [{low:,.1f}, {high:,.1f}]  over {args.seeds} seeds")
    print(f"solved: {all(row['reached'] and row['frozen'] >= GOAL for row in rows)}")
    print(json.dumps(versions()))
    if args.out is not None:
        args.out.write_text(json.dumps({"rows": rows, "versions": versions()}, indent=1))


if __name__ == "__main__":
    main()
