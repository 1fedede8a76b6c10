"""Steps per second of MiniGrid in batches, beside minigrid itself, in one run on one machine.

Counted are environment steps with their observations, levels generated at every reset, uniformly random actions drawn
beforehand. ``--cut 20`` ends every episode after 20 steps, so that generation weighs more.

    python benchmarks/grid.py                                   # the table of the README
    python benchmarks/grid.py --ids MiniGrid-Empty-8x8-v0 --num-envs 64 --seconds 0.5 --cut 20
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import cairn

IDS = (
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-KeyCorridorS3R3-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "MiniGrid-ObstructedMaze-2Dlh-v0",
)
NUM_ENVS = (1, 64, 1024, 16384)
SLOW_PEERS_UP_TO = 64  # lanes: a Python loop over environments does not get faster with more of them


def rate(step: Callable[[int], Any], lanes: int, seconds: float) -> float:
    """Steps per second of ``step(k)``, which steps ``lanes`` environments: the best of three runs of ``seconds``."""
    best = 0.0
    for _ in range(3):
        count, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds / 3:
            for k in range(8):
                step(k)
            count += 8
        best = max(best, count * lanes / (now - start))
    return best


def native(upstream: str, lanes: int, seconds: float, device: str, threads: int | None, cut: int | None) -> float:
    """Our batch."""
    batch: Any = gym.make_vec(
        f"cairn/{upstream}", num_envs=lanes, device=device, threads=threads, max_episode_steps=cut
    )
    batch.reset(seed=0)
    high = int(batch.unwrapped.single_action_space.n)
    actions = torch.from_numpy(np.random.default_rng(0).integers(0, high, (8, lanes))).to(device)
    spread(batch, actions)
    return rate(lambda k: batch.step(actions[k]), lanes, seconds)


def spread(batch: Any, actions: torch.Tensor) -> None:
    """Step a while before the clock runs, so that episodes no longer end together."""
    for k in range(64):
        batch.step(actions[k % 8])


def minigrid_single(upstream: str, lanes: int, seconds: float, cut: int | None) -> float:
    """Upstream, one environment."""
    env = gym.make(upstream, disable_env_checker=True, max_episode_steps=cut)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, int(env.action_space.n), 8)  # type: ignore[attr-defined]

    def step(k: int) -> None:
        _, _, terminated, truncated, _ = env.step(actions[k])
        if terminated or truncated:
            env.reset()

    return rate(step, 1, seconds)


def minigrid_sync(upstream: str, lanes: int, seconds: float, cut: int | None) -> float:
    """Upstream in Gymnasium's SyncVectorEnv, without the mission (whose text it cannot batch)."""

    def one() -> gym.Env[Any, Any]:
        env = gym.make(upstream, disable_env_checker=True, max_episode_steps=cut)
        return gym.wrappers.FilterObservation(env, ["image", "direction"])

    env = gym.vector.SyncVectorEnv([one] * lanes)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, int(env.single_action_space.n), (8, lanes))  # type: ignore[attr-defined]
    return rate(lambda k: env.step(actions[k]), lanes, seconds)


def machine() -> dict[str, Any]:
    """What the numbers were measured on and with."""
    versions = {}
    for name in ("cairn-rl", "warp-lang", "torch", "numpy", "minigrid", "gymnasium"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": processor(), "cores": cores, "gpu": gpu, "python": platform.python_version(), **versions}


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table and one line of JSON, and return the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=list(IDS), help="upstream's ids")
    parser.add_argument("--num-envs", nargs="+", type=int, default=list(NUM_ENVS))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cut", type=int, default=None, help="end every episode after so many steps")
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args(argv)
    minutes = len(given.ids) * len(given.num_envs) * given.seconds / 60
    print(f"cairn {cairn.__version__}: about {minutes * 1.5:.1f} minutes", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    print(f"{'id':34} {'envs':>6} {'steps/s':>12}  by")
    for upstream in given.ids:
        for lanes in given.num_envs:
            measured = {"cairn": native(upstream, lanes, given.seconds, given.device, given.threads, given.cut)}
            if not given.no_peers and lanes == 1:
                measured["minigrid"] = minigrid_single(upstream, lanes, given.seconds, given.cut)
            if not given.no_peers and 1 < lanes <= SLOW_PEERS_UP_TO:
                measured["minigrid, SyncVectorEnv"] = minigrid_sync(upstream, lanes, given.seconds, given.cut)
            for who, steps in measured.items():
                rows.append({"id": upstream, "num_envs": lanes, "by": who, "steps_per_second": round(steps)})
                print(f"{upstream:34} {lanes:6} {steps:12,.0f}  {who}", flush=True)
    print(json.dumps({"benchmark": "grid", "cut": given.cut, "machine": machine(), "rows": rows}))
    return rows


if __name__ == "__main__":
    main()
