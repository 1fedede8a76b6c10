"""The authors' own reward machine code, run as it is, for ``benchmarks/office.py --reference FOLDER``.

Toro Icarte et al., "Reward Machines" (JAIR 2022): https://github.com/RodrigoToroIcarte/reward_machines at commit
3116c2fb6db130a3865332afa760f6ab3c3575d8, which the user clones; nothing of it is here. It asks for gym 0.15.7, OpenAI
baselines and TensorFlow 1.14, of which its tables use little: this file stands in for that little, and starts the
``run.py`` of the clone in a child process, with the options of its ``run_office.sh``. Not a line of the clone is
changed. The seed is Python's ``random``, the only source of chance there; their own runs were not seeded.

    python benchmarks/office_reference.py FOLDER SEED --alg=qlearning --env=Office-v0 --num_timesteps=1e5 --use_crm

prints an array of ``[reward, length]``, an episode each; ``optimum N`` in place of the options, what their
``test_optimal_policies`` finds in N episodes.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

COMMIT = "3116c2fb6db130a3865332afa760f6ab3c3575d8"
# Of the files that are run, as they are at the commit.
DIGEST = "3282fb30775b6942c2eae5f39d2026ba72ebc0d731e0227fe7f54702df75126c"
FILES = ("run.py", "cmd_util.py", "envs/__init__.py", "envs/grids", "reward_machines", "rl_agents/qlearning",
    "rl_agents/hrm")  # fmt: skip


def check(folder: Path) -> None:
    """That the clone has the files of the commit.

    Raises:
        SystemExit: It has others, or none.
    """
    root, found = folder / "reward_machines", hashlib.sha256()
    for place in FILES:
        inside = sorted((root / place).rglob("*")) if (root / place).is_dir() else [root / place]
        for path in inside:
            if path.suffix in (".py", ".txt") and path.is_file():
                text = path.read_text(encoding="utf-8")
                found.update(f"{path.relative_to(root).as_posix()}\n{text}\n".encode())
    if found.hexdigest() != DIGEST:
        raise SystemExit(
            f"{folder} is not a clone of RodrigoToroIcarte/reward_machines at {COMMIT}, on which the figures stand: "
            "its reward_machines/ has other files; clone it and check that commit out"
        )


def episodes(folder: Path, seed: int, options: list[str]) -> list[tuple[float, int]]:
    """A run of theirs in a child process: reward and length of each episode that ended, in order."""
    return [(float(reward), int(length)) for reward, length in _child(folder, seed, options)]


def optimum(folder: Path, number: int) -> list[float]:
    """Reward per step of their best policies with epsilon .1 in each task, simulated over ``number`` episodes."""
    return [float(value) for value in _child(folder, 0, ["optimum", str(number)])]


def _child(folder: Path, seed: int, options: list[str]) -> Any:
    command = [sys.executable, __file__, str(folder.resolve()), str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the authors' code stopped: {' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


class Env:
    """As gym's."""

    action_space: Any = None
    observation_space: Any = None

    def seed(self, seed: int | None = None) -> None:
        """Nothing here draws."""

    def close(self) -> None:
        """Nothing is open."""


class Wrapper(Env):
    """As gym's: what it lacks is its environment's."""

    def __init__(self, env: Any) -> None:
        self.env, self.action_space, self.observation_space = env, env.action_space, env.observation_space

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self) -> Any:
        """Begin an episode."""
        return self.env.reset()

    def step(self, action: Any) -> Any:
        """Observation, reward, done, info."""
        return self.env.step(action)


class TimeLimit(Wrapper):
    """As gym's: an episode that is cut is done."""

    def __init__(self, env: Any, limit: int) -> None:
        super().__init__(env)
        self.limit, self.elapsed = limit, 0

    def reset(self) -> Any:
        """Begin to count."""
        self.elapsed = 0
        return self.env.reset()

    def step(self, action: Any) -> Any:
        """Cut where the limit is reached."""
        obs, reward, done, info = self.env.step(action)
        self.elapsed += 1
        return obs, reward, done or self.elapsed >= self.limit, info


class Monitor(Wrapper):
    """As baselines': the outermost wrapper, which keeps each episode's reward and length."""

    rows: list[tuple[float, int]] = []

    def __init__(self, env: Any, *_: Any, **__: Any) -> None:
        super().__init__(env)
        self.gained, self.taken = 0.0, 0

    def reset(self) -> Any:
        """Begin to add."""
        self.gained, self.taken = 0.0, 0
        return self.env.reset()

    def step(self, action: Any) -> Any:
        """Add, and keep at the end."""
        obs, reward, done, info = self.env.step(action)
        self.gained, self.taken = self.gained + reward, self.taken + 1
        if done:
            self.rows.append((self.gained, self.taken))
        return obs, reward, done, info


class Discrete:
    """As gym's."""

    def __init__(self, n: int) -> None:
        self.n = n


class Box:
    """As gym's, with one bound for all."""

    def __init__(self, low: float, high: float, shape: tuple[int, ...], dtype: Any) -> None:
        self.low, self.high, self.shape = np.full(shape, low, dtype), np.full(shape, high, dtype), shape


class Dict(dict[str, Box]):
    """As gym's."""


def flatten(space: Dict, obs: dict[str, Any]) -> tuple[float, ...]:
    """As gym's, but a tuple already, which is what their tables are indexed by."""
    return tuple(value for name in space for value in obs[name].tolist())


def flatdim(space: Dict) -> int:
    """The length of what ``flatten`` gives."""
    return sum(int(np.prod(part.shape)) for part in space.values())


class Registry:
    """As gym's."""

    def __init__(self) -> None:
        self.specs: dict[str, Any] = {}

    def register(self, id: str, entry_point: str, max_episode_steps: int) -> None:
        """Name an environment."""
        self.specs[id] = types.SimpleNamespace(id=id, entry_point=entry_point, limit=max_episode_steps)

    def make(self, id: str) -> TimeLimit:
        """Make it, cut at its limit."""
        spec = self.specs[id]
        module, name = spec.entry_point.split(":")
        return TimeLimit(getattr(importlib.import_module(module), name)(), spec.limit)

    def all(self) -> list[Any]:
        """What there is."""
        return list(self.specs.values())


class _Unused(types.ModuleType):
    """A module that is imported from and not used in these runs."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _parse_unknown(args: list[str]) -> dict[str, str]:
    return dict(arg[2:].split("=", 1) for arg in args if arg.startswith("--") and "=" in arg)


def install() -> None:
    """Put what stands in for gym, baselines and TensorFlow where an import finds it."""
    registry = Registry()
    # `has` is what is used of a module; the others are only imported from.
    has: dict[str, dict[str, Any]] = {
        "gym": {"Env": Env, "Wrapper": Wrapper, "make": registry.make},
        "gym.envs": {"registry": registry},
        "gym.envs.registration": {"register": registry.register},
        "gym.spaces": {"Discrete": Discrete, "Box": Box, "Dict": Dict, "flatten": flatten, "flatdim": flatdim},
        "baselines.bench": {"Monitor": Monitor},
        "baselines.common.cmd_util": {"arg_parser": argparse.ArgumentParser, "parse_unknown_args": _parse_unknown},
        "baselines.logger": dict.fromkeys(
            ("configure", "log", "record_tabular", "dump_tabular", "get_dir"), lambda *_, **__: None
        ),
    }  # fmt: skip
    common = ("atari_wrappers", "tf_util", "vec_env", "vec_env.dummy_vec_env", "vec_env.subproc_vec_env")
    unused = ["tensorflow", "gym.wrappers", "baselines", "baselines.common", "baselines.common.wrappers"]
    unused += [f"baselines.common.{name}" for name in (*common, "vec_env.vec_video_recorder", "retro_wrappers")]
    for name in [*unused, *has]:
        module = _Unused(name)
        vars(module).update(has.get(name, {}))
        sys.modules[name] = module
    for name in [*unused, *has]:
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, sys.modules[name])


def main(argv: list[str]) -> None:
    """The child process: FOLDER SEED, and the options of their ``run.py``, or ``optimum N``."""
    folder, seed, *options = argv
    install()
    os.chdir(Path(folder) / "reward_machines")
    sys.path.insert(0, os.getcwd())
    random.seed(int(seed))
    found: Any
    with contextlib.redirect_stdout(sys.stderr):
        if options[0] == "optimum":
            importlib.import_module("envs")
            env = sys.modules["gym"].make("Office-v0")
            found = env.test_optimal_policies(num_episodes=int(options[1]), epsilon=0.1, gamma=0.9)
        else:
            importlib.import_module("run").main(["run.py", *options])
            found = Monitor.rows
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
