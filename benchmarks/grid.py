"""Steps per second of MiniGrid in batches: ours beside minigrid, EnvPool, NAVIX and XLand-MiniGrid, in one run.

    python benchmarks/grid.py --envpool-python ../envpool/bin/python --jax-python ../jax/bin/python
    python benchmarks/grid.py --ids MiniGrid-Empty-8x8-v0 --num-envs 64 --seconds 0.5 --cuts 20 --out /tmp/grid.csv

Counted are environment steps with their observations, levels generated at every reset, under uniformly random actions
that were drawn beforehand; ``--cuts 0 20`` measures once with upstream's own episodes and once with every episode cut
at 20 steps, so that generation weighs more. Of each cell the best of three runs counts. The peers are measured right
after ours, cell by cell: ``minigrid`` as one environment and in Gymnasium's SyncVectorEnv (a Python loop does not get
faster with more of them, so up to 64); and from Python environments of their own, since requirements do not go
together, ``envpool`` (``pip install envpool``), ``navix`` and ``xminigrid`` (``pip install navix xminigrid
"jax[cpu]"``: jitted, mapped over environments, 16 steps a call, on all cores). A peer that is not there is said to be
absent. A cell that is in the table is not measured again; the last line is JSON.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

IDS = (
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-KeyCorridorS3R3-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "MiniGrid-ObstructedMaze-2Dlh-v0",
)
NUM_ENVS = (1, 64, 1024, 16384)
SYNC_UP_TO = 64
NAVIX = {"MiniGrid-DoorKey-8x8-v0": "Navix-DoorKey-8x8-v0", "MiniGrid-KeyCorridorS3R3-v0": "Navix-KeyCorridorS3R3-v0"}
XMINIGRID = {"MiniGrid-DoorKey-8x8-v0": "MiniGrid-DoorKey-8x8"}
UNROLL = 16  # steps of a jitted call
ROUNDS = 3


def rate(step: Callable[[int], Any], steps: int, seconds: float) -> float:
    """Steps per second where ``step(k)`` makes ``steps``: the best of three runs of ``seconds`` together."""
    best = 0.0
    for _ in range(ROUNDS):
        count, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds / ROUNDS:
            for k in range(8):
                step(k)
            count += 8
        best = max(best, count * steps / (now - start))
    return best


def draw(high: int, *shape: int) -> np.ndarray[Any, Any]:
    """Random actions."""
    return np.random.default_rng(0).integers(0, high, shape)


def ours(upstream: str, lanes: int, seconds: float, cut: int | None, device: str, threads: int | None) -> float:
    """Our batch."""
    import gymnasium as gym
    import torch

    import cairn  # noqa: F401  (registers the ids)

    batch = gym.make_vec(f"cairn/{upstream}", num_envs=lanes, device=device, threads=threads, max_episode_steps=cut)
    batch.reset(seed=0)
    actions = torch.from_numpy(draw(int(batch.unwrapped.single_action_space.n), 8, lanes)).to(device)  # type: ignore[attr-defined]
    for k in range(64):  # so that episodes no longer end together
        batch.step(actions[k % 8])
    if device == "cpu":
        return rate(lambda k: batch.step(actions[k]), lanes, seconds)

    def step(k: int) -> None:
        batch.step(actions[k])
        if k == 7:
            torch.cuda.synchronize()

    return rate(step, lanes, seconds)


def minigrid_single(upstream: str, seconds: float, cut: int | None) -> float:
    """Upstream, one environment."""
    import gymnasium as gym

    env = gym.make(upstream, disable_env_checker=True, max_episode_steps=cut)
    env.reset(seed=0)
    actions = draw(int(env.action_space.n), 8)  # type: ignore[attr-defined]

    def step(k: int) -> None:
        _, _, terminated, truncated, _ = env.step(actions[k])
        if terminated or truncated:
            env.reset()

    return rate(step, 1, seconds)


def minigrid_sync(upstream: str, lanes: int, seconds: float, cut: int | None) -> float:
    """Upstream in Gymnasium's SyncVectorEnv, without the mission (whose text it cannot batch)."""
    import gymnasium as gym

    def one() -> gym.Env[Any, Any]:
        env = gym.make(upstream, disable_env_checker=True, max_episode_steps=cut)
        return gym.wrappers.FilterObservation(env, ["image", "direction"])

    env = gym.vector.SyncVectorEnv([one] * lanes)
    env.reset(seed=0)
    actions = draw(int(env.single_action_space.n), 8, lanes)  # type: ignore[attr-defined]
    return rate(lambda k: env.step(actions[k]), lanes, seconds)


def envpool_batch(upstream: str, lanes: int, seconds: float, cut: int | None) -> tuple[float, str]:
    """EnvPool, synchronous, with as many threads as there are cores or environments."""
    import envpool  # type: ignore[import-not-found,unused-ignore]

    more = {} if cut is None else {"max_episode_steps": cut}
    threads = min(lanes, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    env = envpool.make_gymnasium(upstream, num_envs=lanes, num_threads=threads, seed=0, **more)
    env.reset()
    actions = draw(int(env.action_space.n), 8, lanes).astype(np.int32)
    return rate(lambda k: env.step(actions[k]), lanes, seconds), version("envpool")


def jax_rate(reset: Any, step: Any, lanes: int, seconds: float) -> float:
    """A jitted scan over ``UNROLL`` steps of ``lanes`` environments; ``step(state, action)`` resets by itself."""
    import jax  # type: ignore[import-not-found]
    import jax.numpy as jnp  # type: ignore[import-not-found]

    @jax.jit  # type: ignore[untyped-decorator]
    def run(state: Any, actions: Any) -> Any:
        return jax.lax.scan(lambda s, a: (jax.vmap(step)(s, a), None), state, actions)[0]

    actions = jnp.asarray(draw(7, 8, UNROLL, lanes))
    box = [jax.jit(jax.vmap(reset))(jax.random.split(jax.random.PRNGKey(0), lanes))]

    def go(k: int) -> None:
        box[0] = jax.block_until_ready(run(box[0], actions[k]))

    for k in range(4):
        go(k)
    return rate(go, lanes * UNROLL, seconds)


def navix_batch(upstream: str, lanes: int, seconds: float, cut: int | None) -> tuple[float, str]:
    """NAVIX, with the agent's partial view."""
    import navix  # type: ignore[import-not-found]

    more = {} if cut is None else {"max_steps": cut}
    env = navix.make(NAVIX[upstream], observation_fn=navix.observations.symbolic_first_person, **more)
    return jax_rate(env.reset, env.step, lanes, seconds), version("navix")


def xminigrid_batch(upstream: str, lanes: int, seconds: float, cut: int | None) -> tuple[float, str]:
    """XLand-MiniGrid's own DoorKey."""
    import xminigrid  # type: ignore[import-not-found]
    from xminigrid.wrappers import GymAutoResetWrapper  # type: ignore[import-not-found]

    env, params = xminigrid.make(XMINIGRID[upstream])
    if cut is not None:
        params = params.replace(max_steps=cut)
    env = GymAutoResetWrapper(env)

    def step(state: Any, action: Any) -> Any:
        return env.step(params, state, action % 6)  # it has six actions

    return jax_rate(lambda key: env.reset(params, key), step, lanes, seconds), version("xminigrid")


PEERS: dict[str, Callable[[str, int, float, int | None], tuple[float, str]]] = {
    "envpool": envpool_batch,
    "navix": navix_batch,
    "xminigrid": xminigrid_batch,
}
HAS = {"envpool": IDS, "navix": tuple(NAVIX), "xminigrid": tuple(XMINIGRID)}


def ask_peer(python: str, peer: str, upstream: str, lanes: int, seconds: float, cut: int) -> tuple[float, str] | str:
    """Measure a peer in its own Python: (steps per second, its version), or why there is no figure."""
    command = [python, __file__, "--peer", peer, "--ids", upstream, "--num-envs", str(lanes)]
    command += ["--seconds", str(seconds), "--cuts", str(cut)]
    try:
        # Nothing of this process's Python reaches the other one.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OMP_"))}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=clean)
        steps, release = json.loads(done.stdout.splitlines()[-1])
        return float(steps), str(release)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    except (IndexError, ValueError):
        return (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=list(IDS), help="upstream's ids")
    parser.add_argument("--num-envs", nargs="+", type=int, default=list(NUM_ENVS))
    parser.add_argument("--cuts", nargs="+", type=int, default=[0, 20], help="0: upstream's own episodes")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--envpool-python", help="a Python that has envpool")
    parser.add_argument("--jax-python", help="a Python that has navix and xminigrid")
    parser.add_argument("--no-peers", action="store_true", help="not even minigrid")
    parser.add_argument("--out", help="the table of cells (benchmarks/results/grid/cells.csv)")
    parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the table does not have, print it all and one line of JSON, and write that beside the table."""
    given = parse(argv)
    if given.peer:  # in a peer's Python, which has no cairn
        cut = given.cuts[0] or None
        print(json.dumps(PEERS[given.peer](given.ids[0], given.num_envs[0], given.seconds, cut)))
        return
    from cairn.benchmarks.tables import RESULTS, Cells, machine

    path = Path(given.out) if given.out else RESULTS / "grid" / "cells.csv"
    cells = Cells(path, ["device", "cut", "id", "num_envs", "by"])
    pythons = {"envpool": given.envpool_python, "navix": given.jax_python, "xminigrid": given.jax_python}
    absent: dict[str, str] = {name: "no Python was given" for name, python in pythons.items() if not python}
    facts = machine()
    print("  ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    print(f"{'cut':>4} {'id':34} {'envs':>6} {'steps/s':>13} {'ours is':>9}  by")
    for cut in given.cuts:
        for upstream in given.ids:
            for lanes in given.num_envs:
                _measure_cell(given, cells, cut, upstream, lanes, pythons, absent)
    if not given.no_peers:
        for name, why in absent.items():
            print(f"absent: {name} ({why})")
    rows = cells.rows()
    line = {"benchmark": "grid", "machine": facts, "absent": {} if given.no_peers else absent, "rows": rows}
    path.with_suffix(".json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


def _measure_cell(
    given: argparse.Namespace,
    cells: Any,
    cut: int,
    upstream: str,
    lanes: int,
    pythons: dict[str, str | None],
    absent: dict[str, str],
) -> None:
    """Measure ours and every peer on one task with one number of environments."""
    at = {"device": given.device, "cut": cut, "id": upstream, "num_envs": lanes}

    def add(by: str, release: str, measure: Callable[[], float]) -> None:
        key = {**at, "by": by}
        if not cells.done(key):
            cells.add({**key, "version": release, "steps_per_second": round(measure())})
        found = [row for row in cells.rows() if all(row[k] == str(v) for k, v in key.items())][0]
        mine = [row for row in cells.rows() if all(row[k] == str(v) for k, v in {**at, "by": "cairn"}.items())][0]
        steps, ratio = float(found["steps_per_second"]), float(mine["steps_per_second"])
        print(f"{cut:4} {upstream:34} {lanes:6} {steps:13,.0f} {ratio / max(steps, 1):8.1f}x  {by}", flush=True)

    import cairn

    seconds, end = given.seconds, cut or None
    add("cairn", cairn.__version__, lambda: ours(upstream, lanes, seconds, end, given.device, given.threads))
    if given.no_peers:
        return
    if lanes == 1:
        add("minigrid", version("minigrid"), lambda: minigrid_single(upstream, seconds, end))
    elif lanes <= SYNC_UP_TO:
        add("minigrid, SyncVectorEnv", version("minigrid"), lambda: minigrid_sync(upstream, lanes, seconds, end))
    for peer, python in pythons.items():
        if not python or upstream not in HAS[peer] or peer in absent:
            continue
        answer: tuple[float, str] | str = (0.0, "")
        if not cells.done({**at, "by": peer}):
            answer = ask_peer(python, peer, upstream, lanes, seconds, cut)
        if isinstance(answer, str):
            absent[peer] = answer
        else:
            add(peer, answer[1], lambda steps=answer[0]: steps)  # type: ignore[misc]


if __name__ == "__main__":
    main()
