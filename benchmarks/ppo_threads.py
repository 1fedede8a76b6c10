"""How many threads torch should use beside the environments: training steps per second for each setting, best first.

Two loads: bridged environments (Python, one thread) and a batch of points in torch (no environment cost to speak of).
Settings are measured in rounds, in turn, each in a fresh process, so that a busy minute hits all of them alike;
the median of the rounds counts. The default is torch's own: as many threads as there are cores.

    python benchmarks/ppo_threads.py [--rounds 5]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

SECONDS = 6.0


def points(lanes: int) -> Any:
    """A batch of points that are pushed about: a few torch operations a step for all of them."""
    import numpy as np
    import torch
    from gymnasium import spaces

    from cairn.envs.batch import BatchEnv

    class Points(BatchEnv):
        def __init__(self) -> None:
            super().__init__(lanes, spaces.Box(-9, 9, (4,), np.float32), spaces.Discrete(4), max_steps=50)
            self.push = torch.eye(4) * 0.3

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.x, self.t = torch.rand(lanes, 4), torch.zeros(lanes, dtype=torch.int64)
            return self.x, {"facts": {}}

        def step(self, actions: Any) -> Any:
            final, self.t = self.x * 0.99 + self.push[actions] - 0.1, self.t + 1
            terminated, truncated = final[:, 0] > 3, self.t >= 50
            ended = terminated | truncated
            self.x = torch.where(ended[:, None], torch.rand(lanes, 4), final)
            self.t = torch.where(ended, 0, self.t)
            info = {"final_obs": final, "_final_obs": ended, "facts": {}, "final_facts": {}}
            return self.x, -final.abs().mean(1), terminated, truncated, info

    return Points()


def measure(load: str, threads: int) -> None:
    """Train for a few seconds and print steps per second, and the share of it that went into learning."""
    import torch

    from cairn.agents import PPO
    from cairn.envs import from_gymnasium

    if threads:
        torch.set_num_threads(threads)
    envs = points(512) if load == "points" else from_gymnasium("CartPole-v1", 16)
    model = PPO("MlpPolicy", envs, seed=0)
    learning, inner = [0.0], model.train

    def train() -> None:
        began = time.perf_counter()
        inner()
        learning[0] += time.perf_counter() - began

    model.train = train  # type: ignore[method-assign]
    model.learn(2 * model.n_steps * model.n_envs)
    steps, learning[0], began = 0, 0.0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SECONDS:
        model.learn(4 * model.n_steps * model.n_envs, reset_num_timesteps=False)
        steps += 4 * model.n_steps * model.n_envs
    print(json.dumps({"rate": steps / elapsed, "learning": learning[0] / elapsed, "threads": torch.get_num_threads()}))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        measure(args.measure[0], int(args.measure[1]))
        return
    cores = os.cpu_count() or 1
    from torch import get_num_threads

    default = get_num_threads()  # what PPO leaves as it is
    settings = sorted({1, 2, max(cores // 2, 1), cores, default})
    rates: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for load in ("points", "bridged"):
            for threads in settings:
                command = [sys.executable, __file__, "--measure", load, str(threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rates.setdefault((load, threads), []).append(json.loads(done.stdout.splitlines()[-1]))
    for load in ("points", "bridged"):
        rows = {t: statistics.median(r["rate"] for r in rates[load, t]) for t in settings}
        best = max(rows.values())
        for threads, rate in sorted(rows.items(), key=lambda item: -item[1]):
            name = f"{threads} thread{'s' * (threads > 1)}" + " (default)" * (threads == default)
            share = statistics.median(r["learning"] for r in rates[load, threads])
            print(
                f"{load:8} {name:19} {rate:10,.0f} steps/s  {rate / best:6.1%} of the best  learning {share:.0%} of it"
            )
        print(f"{load}: the default is {'within' if rows[default] >= 0.9 * best else 'NOT within'} 10 % of the best")
    from cairn.runs import versions

    print(json.dumps(versions()))


if __name__ == "__main__":
    main()
