"""Physics on the CPU: our batch against bare ``mujoco.rollout``, Gymnasium's vector environments and EnvPool.

    python benchmarks/physics.py                                  # 256 environments, two threads
    python benchmarks/physics.py --peers rollout envpool --envpool-python ../envpool/bin/python
    python benchmarks/physics.py --tasks Ant-v5 --rounds 3 --peers rollout --out /tmp/physics.csv

A cell is our batch and one peer, by turns, with the same random actions; its ratio is the median over rounds of ours
by theirs in that round, so that what else the machine does concerns both. ``rollout`` is given the states, controls
and warm starts of our own steps, so that it does the same physics: it returns states and nothing else. EnvPool runs in
this Python where it is installed, or in one of its own (``--envpool-python``, with ``pip install envpool``). A peer
that is not there is said to be absent. A cell that is in the table is not measured again; the last line is JSON.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TASKS = ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5")
PEERS = ("rollout", "sync", "async", "envpool")
Actions = np.ndarray[Any, Any]
Contender = Callable[[Actions], float]  # actions [S, N, nu] -> seconds


def timed_steps(step: Callable[[Any], Any], actions: Any) -> float:
    """Seconds to step through ``actions``."""
    begun = time.perf_counter()
    for action in actions:
        step(action)
    return time.perf_counter() - begun


class Ours:
    """Our batch, and ``mujoco.rollout`` over the states that the batch went through in its last turn."""

    def __init__(self, task: str, num_envs: int, threads: int, remember: bool) -> None:
        import gymnasium as gym

        import cairn  # noqa: F401  (registers the ids)

        self.batch: Any = gym.make_vec(f"cairn/{task}", num_envs=num_envs, threads=threads)
        self.batch.reset(seed=0)
        self.threads, self.remember = threads, remember
        self.visited: list[tuple[Actions, Actions]] = []

    def run(self, actions: Actions) -> float:
        """Seconds of our steps."""
        import torch

        self.visited.clear()
        if not self.remember:
            return timed_steps(self.batch.step, torch.from_numpy(actions))
        seconds = 0.0
        for action in torch.from_numpy(actions):
            self.visited.append(self._present())
            seconds += timed_steps(self.batch.step, [action])
        return seconds

    def _present(self) -> tuple[Actions, Actions]:
        """Full physics states and warm starts, as ``mujoco.rollout`` wants them."""
        import mujoco

        model, rows = self.batch.model, self.batch.engine.states
        spec, whole = mujoco.mjtState.mjSTATE_FULLPHYSICS, mujoco.mjtState.mjSTATE_INTEGRATION
        data = mujoco.MjData(model)
        state, warm = np.zeros((len(rows), mujoco.mj_stateSize(model, spec))), np.zeros((len(rows), model.nv))
        for i, row in enumerate(rows):
            mujoco.mj_setState(model, data, row, whole)
            mujoco.mj_getState(model, data, state[i], spec)
            warm[i] = data.qacc_warmstart
        return state, warm

    def rollout(self) -> Contender:
        """``mujoco.rollout`` over what was visited."""
        import mujoco
        import mujoco.rollout

        model, skip = self.batch.model, self.batch.task.frame_skip
        pool = mujoco.rollout.Rollout(nthread=self.threads)
        datas = [mujoco.MjData(model) for _ in range(self.threads)]
        models = [model] * self.batch.num_envs

        def run(actions: Actions) -> float:
            seconds = 0.0
            for action, (state, warm) in zip(actions, self.visited):
                control = np.repeat(action[:, None].astype(np.float64), skip, axis=1)
                begun = time.perf_counter()
                pool.rollout(models, datas, state, control, initial_warmstart=warm)
                seconds += time.perf_counter() - begun
            return seconds

        return run


def gymnasium_vector(task: str, num_envs: int, mode: str) -> Contender:
    """SyncVectorEnv or AsyncVectorEnv."""
    import gymnasium as gym

    envs = gym.make_vec(task, num_envs=num_envs, vectorization_mode=mode)
    envs.reset(seed=0)
    return lambda actions: timed_steps(envs.step, actions)


def envpool_vector(task: str, num_envs: int, threads: int) -> Contender:
    """EnvPool's own v5."""
    import envpool  # type: ignore[import-not-found,unused-ignore]

    envs = envpool.make_gymnasium(task, num_envs=num_envs, num_threads=threads, seed=0)
    envs.reset()
    return lambda actions: timed_steps(envs.step, actions)


class Elsewhere:
    """EnvPool in another Python, which does a round when it is told to."""

    def __init__(self, python: str, task: str, num_envs: int, threads: int) -> None:
        command = [python, __file__, "--serve", "--tasks", task, "--num-envs", str(num_envs), "--threads", str(threads)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OMP_"))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean
        )
        self.version = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line.startswith(b"> "):
            self._process.kill()
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise ImportError((said or ["it printed nothing"])[-1])
        return line[2:].decode().strip()

    def __call__(self, actions: Actions) -> float:
        """Seconds of one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(np.array(actions.shape, np.int64).tobytes() + actions.tobytes())
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def serve(task: str, num_envs: int, threads: int) -> None:
    """Do rounds of EnvPool's with the actions on standard input, in a Python that need not have cairn."""
    run = envpool_vector(task, num_envs, threads)
    print(">", importlib.metadata.version("envpool"), flush=True)
    while head := sys.stdin.buffer.read(24):
        shape = np.frombuffer(head, np.int64)
        actions = np.frombuffer(sys.stdin.buffer.read(int(4 * shape.prod())), np.float32).reshape(shape)
        print(">", run(actions), flush=True)


def measure(task: str, peer: str, given: argparse.Namespace) -> dict[str, Any]:
    """Environment steps a second of ours and of one peer, by turns.

    Raises:
        ImportError: The peer is not installed.
    """
    other: Contender
    release, elsewhere = "", None
    ours = Ours(task, given.num_envs, given.threads, remember=peer == "rollout")
    if peer == "rollout":
        other, release = ours.rollout(), importlib.metadata.version("mujoco")
    elif peer != "envpool":
        other, release = gymnasium_vector(task, given.num_envs, peer), importlib.metadata.version("gymnasium")
    elif given.envpool_python:
        other = elsewhere = Elsewhere(given.envpool_python, task, given.num_envs, given.threads)
        release = elsewhere.version
    else:
        other, release = envpool_vector(task, given.num_envs, given.threads), importlib.metadata.version("envpool")
    space, rng = ours.batch.action_space, np.random.default_rng(0)
    seconds: list[tuple[float, float]] = []
    try:
        for round_ in range(given.rounds + 1):
            actions = rng.uniform(space.low, space.high, (given.steps, *space.shape)).astype(np.float32)
            pair = (ours.run(actions), other(actions))
            if round_:  # the first round warms caches and pools
                seconds.append(pair)
            print(f"  {task} beside {peer}: round {round_} of {given.rounds}", end="\r", file=sys.stderr, flush=True)
    finally:
        if elsewhere is not None:
            elsewhere.close()
        ours.batch.close()
    steps, ratios = given.num_envs * given.steps, sorted(b / a for a, b in seconds)
    mine, theirs = (steps / statistics.median(column) for column in zip(*seconds))
    return {
        "version": release,
        "cairn_steps_per_second": round(mine),
        "steps_per_second": round(theirs),
        "ratio": f"{statistics.median(ratios):.3f}",
        "ratio_low": f"{ratios[0]:.3f}",
        "ratio_high": f"{ratios[-1]:.3f}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="upstream's ids")
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--envpool-python", help="a Python that has envpool; this one by default")
    parser.add_argument("--out", help="the table of cells (benchmarks/results/physics/cells.csv)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the table does not have, print it all and one line of JSON, and write that beside the table."""
    given = parse(argv)
    if given.serve:
        serve(given.tasks[0], given.num_envs, given.threads)
        return
    from cairn.benchmarks.tables import RESULTS, Cells, machine

    path = Path(given.out) if given.out else RESULTS / "physics" / "cells.csv"
    cells = Cells(path, ["task", "num_envs", "threads", "steps", "rounds", "peer"])
    facts, absent = machine(), {}
    print("  ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    for task in given.tasks:
        for peer in given.peers:
            at = {"task": task, "num_envs": given.num_envs, "threads": given.threads}
            key = {**at, "steps": given.steps, "rounds": given.rounds, "peer": peer}
            if not cells.done(key):
                try:
                    row = measure(task, peer, given)
                except ImportError as error:
                    absent[peer] = str(error)
                    continue
                cells.add({**key, **row})
            found = next(row for row in cells.rows() if all(row[k] == str(v) for k, v in key.items()))
            print(
                f"{task:16} {peer:8} {float(found['cairn_steps_per_second']):9,.0f}/s by "
                f"{float(found['steps_per_second']):9,.0f}/s: cairn {found['ratio']}x "
                f"({found['ratio_low']} to {found['ratio_high']}), load {found['load']}",
                flush=True,
            )
    for peer, why in absent.items():
        print(f"absent: {peer} ({why})")
    line = {"benchmark": "physics", "machine": facts, "absent": absent, "rows": cells.rows()}
    path.with_suffix(".json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
