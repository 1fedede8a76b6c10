"""Physics on the CPU: our batch against bare ``mujoco.rollout``, Gymnasium's vector environments and EnvPool.

    python benchmarks/physics.py                                  # 256 environments, two threads
    python benchmarks/physics.py --tasks Ant-v5 --rounds 3 --peers rollout,sync

All contenders get the same random actions, in rounds by turns, and the median over rounds counts. ``rollout`` is given
the states, controls and warm starts of our own steps, so that it does the same physics: it returns states and nothing
else. Peers that are not installed are left out. The last line is JSON.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import mujoco
import mujoco.rollout
import numpy as np
import torch

import cairn  # noqa: F401

PEERS = ("rollout", "sync", "async", "envpool")
Contender = Callable[[np.ndarray], float]  # actions [S, N, nu] -> seconds


def cpu_name() -> str:
    """The processor's name, as the system has it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def timed_steps(step: Callable[[Any], Any], actions: Any) -> float:
    """Seconds to step through ``actions``."""
    begun = time.perf_counter()
    for action in actions:
        step(action)
    return time.perf_counter() - begun


def ours_and_rollout(task: str, num_envs: int, threads: int) -> tuple[Contender, Contender, Any]:
    """Our batch; and ``mujoco.rollout`` over the states that the batch went through in its last turn."""
    batch: Any = gym.make_vec(f"cairn/{task}", num_envs=num_envs, threads=threads)
    batch.reset(seed=0)
    model, skip = batch.model, batch.task.frame_skip
    spec, whole = mujoco.mjtState.mjSTATE_FULLPHYSICS, mujoco.mjtState.mjSTATE_INTEGRATION
    data = mujoco.MjData(model)
    visited: list[tuple[np.ndarray, np.ndarray]] = []

    def ours(actions: np.ndarray) -> float:
        visited.clear()
        seconds = 0.0
        for action in torch.from_numpy(actions):
            state = np.zeros((num_envs, mujoco.mj_stateSize(model, spec)))
            warm = np.zeros((num_envs, model.nv))
            for i, row in enumerate(batch.engine.states):
                mujoco.mj_setState(model, data, row, whole)
                mujoco.mj_getState(model, data, state[i], spec)
                warm[i] = data.qacc_warmstart
            visited.append((state, warm))
            begun = time.perf_counter()
            batch.step(action)
            seconds += time.perf_counter() - begun
        return seconds

    pool = mujoco.rollout.Rollout(nthread=threads)
    datas = [mujoco.MjData(model) for _ in range(threads)]

    def rollout(actions: np.ndarray) -> float:
        seconds = 0.0
        for action, (state, warm) in zip(actions, visited):
            control = np.repeat(action[:, None].astype(np.float64), skip, axis=1)
            begun = time.perf_counter()
            pool.rollout([model] * num_envs, datas, state, control, initial_warmstart=warm)
            seconds += time.perf_counter() - begun
        return seconds

    return ours, rollout, batch


def gymnasium_vector(task: str, num_envs: int, mode: str) -> Contender:
    """SyncVectorEnv or AsyncVectorEnv."""
    envs = gym.make_vec(task, num_envs=num_envs, vectorization_mode=mode)
    envs.reset(seed=0)
    return lambda actions: timed_steps(envs.step, actions)


def envpool_vector(task: str, num_envs: int, threads: int) -> Contender:
    """EnvPool's own v5."""
    import envpool  # type: ignore[import-not-found]

    envs = envpool.make_gymnasium(task, num_envs=num_envs, num_threads=threads, seed=0)
    envs.reset()
    return lambda actions: timed_steps(envs.step, actions)


def measure(task: str, args: argparse.Namespace) -> dict[str, float]:
    """Environment steps a second of each contender."""
    ours, rollout, batch = ours_and_rollout(task, args.num_envs, args.threads)
    contenders: dict[str, Contender] = {"cairn": ours}
    if "rollout" in args.peers:
        contenders["rollout"] = rollout
    for mode in ("sync", "async"):
        if mode in args.peers:
            contenders[mode] = gymnasium_vector(task, args.num_envs, mode)
    if "envpool" in args.peers and version("envpool"):
        contenders["envpool"] = envpool_vector(task, args.num_envs, args.threads)
    space, rng = batch.action_space, np.random.default_rng(0)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(args.rounds + 1):
        actions = rng.uniform(space.low, space.high, (args.steps, *space.shape)).astype(np.float32)
        for name, run in contenders.items():
            seconds = run(actions)
            if round_:  # the first round warms caches and pools
                rates[name].append(args.num_envs * args.steps / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", default="Ant-v5,HalfCheetah-v5,Humanoid-v5", type=lambda s: s.split(","))
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="rollout,sync,envpool", type=lambda s: s.split(","), help=", ".join(PEERS))
    args = parser.parse_args(argv)
    if unknown := set(args.peers) - {*PEERS, ""}:
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")

    versions = {name: version(name) for name in ("mujoco", "gymnasium", "numpy", "torch", "envpool") if version(name)}
    machine = {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2)}
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} at the start; {versions}")
    print(f"{args.num_envs} environments, {args.threads} threads, median of {args.rounds} rounds of {args.steps} steps")
    results = {}
    for task in args.tasks:
        rates = results[task] = measure(task, args)
        row = "  ".join(
            f"{name} {rate:,.0f}/s" + (f" (cairn {rates['cairn'] / rate:.2f}x)" if name != "cairn" else "")
            for name, rate in rates.items()
        )
        print(f"{task:16} {row}")
    settings = {"num_envs": args.num_envs, "threads": args.threads, "steps": args.steps, "rounds": args.rounds}
    print(json.dumps({"benchmark": "physics", "machine": machine, "versions": versions, **settings, "rates": results}))


if __name__ == "__main__":
    main()
