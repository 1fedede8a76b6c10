"""Evaluations per second on the redundant arm: one batch, beside pyribs with a Gymnasium SyncVectorEnv.

Both run MAP-Elites with pyribs' own archive and emitter on the same world, the same networks and as many genomes at
once; what differs is who runs the episodes. The peer is one NumPy environment per genome in a ``SyncVectorEnv``, its
networks batched in NumPy, as pyribs' reinforcement learning tutorials do it. Both are run in turn, several times, and
the ratio of the medians is reported. Ours runs whole episodes in compiled code (``qd/compiled.py``), and once more step
by step, as a batch runs where frames or trajectories are asked for. That the two worlds are the same is checked first,
on random policies.

    cairn bench qd_speed                # needs the extra qd; about a minute
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

import cairn.benchmarks.tables as tables
from cairn.envs.areas import arm
from cairn.qd import MLP, Evaluator, Problem, Search

Array = NDArray[np.float64]


class NumpyArm(gym.Env[Any, Any]):
    """The redundant arm by itself, vectorised over its joints."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = spaces.Box(-1.0, 1.0, (arm.JOINTS,), np.float32)
        self._i, self._j = np.triu_indices(arm.JOINTS + 1, 2)
        self._walls = np.array(arm.WALLS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """The spiral."""
        self._angles = np.linspace(4 * np.pi / arm.JOINTS, np.pi / arm.JOINTS, arm.JOINTS)
        self._speeds, self._t = np.zeros(arm.JOINTS), 0
        self._hand = self._joints(self._angles)[-1]
        return self._obs(), {"hand": self._hand}

    def _obs(self) -> Any:
        return np.clip(self._angles / np.pi, -1, 1).astype(np.float32)

    def _joints(self, angles: Array) -> Array:
        turned = np.pi / 2 + np.cumsum(angles)
        ends = arm.BASE + arm.LINK * np.cumsum(np.stack([np.cos(turned), np.sin(turned)], -1), 0)
        return np.concatenate([[[arm.BASE, arm.BASE]], ends])

    def _legal(self, joints: Array) -> bool:
        if joints.min() < 0 or joints.max() >= 1:
            return False
        x, y = joints.T[:, :, None]
        left, low, wide, high = self._walls.T
        if ((x > left) & (x < left + wide) & (y > low) & (y < low + high)).any():
            return False
        return bool((np.abs(joints[self._i] - joints[self._j]).sum(-1) >= arm.TOUCH).all())

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Two ticks."""
        stopped = False
        for _ in range(arm.TICKS):
            faster = self._speeds + action * (arm.TICK / 2)
            there = self._angles + faster * arm.TICK
            joints = self._joints(there)
            if not self._legal(joints):
                stopped = True
                break
            self._angles, self._speeds, self._hand = there, faster, joints[-1]
        self._t += 1
        cut = not stopped and self._t >= arm.STEPS
        paid = 0.0
        if stopped or cut:
            for x, y, radius in arm.AREAS:
                away = float(np.hypot(self._hand[0] - x, self._hand[1] - y))
                paid = (radius - away) / radius if away <= radius else paid
        return self._obs(), paid, stopped, cut, {"hand": self._hand}


class Peer:
    """A SyncVectorEnv of ``NumpyArm`` with a network each."""

    def __init__(self, count: int) -> None:
        self.envs = SyncVectorEnv([NumpyArm] * count)
        self.count = count

    def __call__(self, genomes: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
        """Returns ``[P]`` and hands ``[P, 2]``."""
        layers, at = [], 0
        for a, b in zip(sizes, sizes[1:]):
            layers.append((genomes[:, at : at + a * b].reshape(-1, a, b), genomes[:, at + a * b, None]))
            at += a * b + 1
        obs, _ = self.envs.reset()
        alive, total, hands = np.ones(self.count, bool), np.zeros(self.count), np.zeros((self.count, 2))
        while alive.any():
            x = obs.astype(np.float64)
            for weight, bias in layers:
                x = np.tanh((np.einsum("ni,nio->no", x, weight) + bias) / 2)
            obs, reward, terminated, truncated, info = self.envs.step(x.astype(np.float32))
            ended = (terminated | truncated) & alive
            total += np.where(alive, reward, 0.0)
            hands[ended] = info["hand"][ended]
            alive &= ~ended
        return total, hands


def check(genomes: int = 40) -> None:
    """The two worlds give the same outcomes.

    Raises:
        SystemExit: They do not.
    """
    batch = arm.ArmBatch(genomes)
    policy = MLP(batch.single_observation_space, batch.single_action_space)
    population = torch.randn(genomes, policy.size, generator=torch.Generator().manual_seed(0))
    ours = Evaluator(batch, policy)(population)
    total, hands = Peer(genomes)(population.double().numpy(), policy.sizes)
    # A collision that hangs on the last digit may come a step earlier in one of them.
    same = (np.abs(hands - ours.measures.numpy()) < 1e-3).all(-1) & (np.abs(total - ours.objective.numpy()) < 0.02)
    if same.mean() < 0.95:
        raise SystemExit(f"only {same.mean():.0%} of the episodes agree: the comparison would not be fair")
    print(f"{same.sum()} of {genomes} episodes agree")


def ours(lanes: int, rounds: int, compiled: bool = True) -> float:
    """Evaluations per second of process time with one batch."""
    batch = arm.ArmBatch(lanes)
    policy = MLP(batch.single_observation_space, batch.single_action_space)
    evaluator = Evaluator(batch, policy, compiled=compiled)
    low, high = batch.descriptor_bounds
    search = Search("map-elites", Problem(policy.size, low, high), {"population": lanes})
    began = time.process_time()
    for _ in range(rounds):
        search.tell(evaluator(search.ask()))
    return lanes * rounds / (time.process_time() - began)


def theirs(lanes: int, rounds: int) -> float:
    """The same with pyribs' scheduler and the peer."""
    from ribs.archives import GridArchive
    from ribs.emitters import GaussianEmitter
    from ribs.schedulers import Scheduler

    box = spaces.Box(-1.0, 1.0, (arm.JOINTS,), np.float32)
    policy, peer = MLP(box, box), Peer(lanes)
    archive = GridArchive(solution_dim=policy.size, dims=[50, 50], ranges=[(0, 1), (0, 1)])
    first = np.random.default_rng(0).normal(size=(lanes, policy.size))
    emitter = GaussianEmitter(archive, sigma=0.05, initial_solutions=first, batch_size=lanes)
    scheduler = Scheduler(archive, [emitter])
    began = time.process_time()
    for _ in range(rounds):
        paid, hands = peer(scheduler.ask(), policy.sizes)
        scheduler.tell(paid, hands)
    return lanes * rounds / (time.process_time() - began)


def main(argv: Sequence[str] | None = None) -> None:
    """Check that the worlds agree, then time both in turn."""
    parser = argparse.ArgumentParser(prog="cairn bench qd_speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--lanes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=2, help="generations in each timing")
    parser.add_argument("--times", type=int, default=3, help="timings of each, in turn")
    parser.add_argument("--out", type=Path, help="the table of cells (benchmarks/results/qd_speed/cells.csv)")
    args = parser.parse_args(argv)
    try:
        import ribs
    except ImportError as error:
        raise SystemExit("this benchmark needs pyribs: pip install 'cairn-rl[qd]'") from error
    torch.set_num_threads(1)
    facts = {**tables.machine(), "ribs": ribs.__version__}
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    print("one thread; seconds of the process")
    check()
    cells = tables.Cells(args.out or tables.RESULTS / "qd_speed" / "cells.csv", ("world", "genomes"))
    for lanes in args.lanes:
        key = {"world": "redundant arm", "genomes": lanes}
        if cells.done(key):
            continue
        ours(lanes, 1), ours(lanes, 1, compiled=False), theirs(min(lanes, 20), 1)  # warm
        turns = [
            (theirs(lanes, args.rounds), ours(lanes, args.rounds), ours(lanes, args.rounds, compiled=False))
            for _ in range(args.times)
        ]
        slow, fast, stepped = (median(column) for column in zip(*turns))
        rates = {
            "cairn/s": round(fast),
            "peer/s": round(slow),
            "ratio": f"{fast / slow:.2f}",
            "by steps/s": round(stepped),
        }
        peer = f"ribs {ribs.__version__}, SyncVectorEnv"
        cells.add({**key, **rates, "peer": peer, "processor": facts["processor"], "torch": facts["torch"]})
    print("| genomes at once | pyribs + SyncVectorEnv, evaluations/s | compiled | ratio | by steps | ratio |")
    print("|---" * 6 + "|")
    for row in cells.rows():
        slow, fast, stepped = (float(row[name]) for name in ("peer/s", "cairn/s", "by steps/s"))
        rates_said = [f"{slow:,.0f}", f"{fast:,.0f}", f"{fast / slow:.1f}", f"{stepped:,.0f}", f"{stepped / slow:.1f}"]
        print(f"| {int(row['genomes']):,} | {' | '.join(rates_said)} |", flush=True)


if __name__ == "__main__":
    main()
