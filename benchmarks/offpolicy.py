"""DQN, SAC and TD3 beside Stable-Baselines3's own: return by steps and seconds over seeds, and steps per second.

Learning (``cairn bench offpolicy``): DQN on CartPole-v1, SAC and TD3 on Pendulum-v1, one environment, the same settings
for both libraries; ``cairn-8`` is ours with eight environments and as many gradient steps for each transition. The
frozen greedy policy is tried on ten fresh episodes along the way. Rows are added to ``results/offpolicy/learning.csv``
one by one: started again, it goes on where it was. ``--tasks SAC-HalfCheetah`` adds the row that takes hours.

Speed (``cairn bench offpolicy --speed``): environment steps per second of process time, training included, the two
libraries in alternation with the same settings, in ``results/offpolicy/speed.csv``.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise

from cairn import agents
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import as_sb3, from_gymnasium

FOLDER = RESULTS / "offpolicy"


@dataclass(frozen=True)
class Task:
    """What is learned, by which algorithm, for how long, and when it counts as learned."""

    algorithm: str
    env: str
    steps: int
    every: int
    """Steps between two trials."""
    goal: float
    """Mean return of ten greedy episodes."""
    settings: dict[str, Any] = field(default_factory=dict)
    noise: float | None = None


PENDULUM: dict[str, Any] = {
    "learning_rate": 1e-3, "buffer_size": 20_000, "batch_size": 128, "gamma": 0.98, "train_freq": 1,
    "gradient_steps": 1, "policy_kwargs": {"net_arch": [64, 64]},
}  # fmt: skip
TASKS = {
    "DQN-CartPole": Task(
        "DQN", "CartPole-v1", 50_000, 2_000, 475.0,
        {
            "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000, "gamma": 0.99,
            "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
        },
    ),
    "SAC-Pendulum": Task("SAC", "Pendulum-v1", 6_000, 500, -200.0, {**PENDULUM, "learning_starts": 100}),
    "TD3-Pendulum": Task("TD3", "Pendulum-v1", 6_000, 500, -200.0, {**PENDULUM, "learning_starts": 500}, 0.1),
    "SAC-HalfCheetah": Task("SAC", "HalfCheetah-v5", 1_000_000, 20_000, 5000.0, {"learning_starts": 10_000}),
}  # fmt: skip
LIBRARIES = ("sb3", "cairn", "cairn-8")


class Trials(BaseCallback):
    """Tries the greedy policy every so many steps, and keeps its time apart."""

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__()
        self.task, self.seed, self.env = task, seed, gym.make(task.env)
        self.curve: list[tuple[int, float]] = []
        self.seconds = self.cpu = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps // self.task.every > len(self.curve):
            began = time.perf_counter(), time.process_time()
            # What is tried leaves no trace in training.
            with torch.random.fork_rng(devices=[]):
                numpy = np.random.get_state()
                self.curve.append((self.num_timesteps, self.returns()))
                np.random.set_state(numpy)
            self.seconds += time.perf_counter() - began[0]
            self.cpu += time.process_time() - began[1]
        return True

    def returns(self) -> float:
        """The mean return of ten greedy episodes, the same ten at every trial."""
        found = []
        for episode in range(10):
            obs, _ = self.env.reset(seed=10_000 * (self.seed + 1) + episode)
            total, over = 0.0, False
            while not over:
                obs, reward, terminated, truncated, _ = self.env.step(self.model.predict(obs, deterministic=True)[0])
                total, over = total + float(reward), terminated or truncated
            found.append(total)
        return float(np.mean(found))


def make(task: Task, library: str, seed: int) -> Any:
    """The model, on its environments."""
    # SB3 writes into the policy_kwargs that it is given.
    settings = {**deepcopy(task.settings), "seed": seed, "device": "cpu"}
    space = gym.spec(task.env).make().action_space
    if task.noise is not None:
        width = int(np.prod(space.shape or (1,)))
        settings["action_noise"] = NormalActionNoise(np.zeros(width), task.noise * np.ones(width))
    if library == "sb3":
        return getattr(sb3, task.algorithm)("MlpPolicy", make_vec_env(task.env, seed=seed), **settings)
    cls = getattr(agents, task.algorithm)
    if library == "cairn":
        return cls("MlpPolicy", from_gymnasium(task.env, 1), **settings)
    freq, steps = settings.get("train_freq", 1), settings.get("gradient_steps", 1)
    settings |= {"train_freq": max(freq // 8, 1), "gradient_steps": steps * max(8 // freq, 1)}
    return cls("MlpPolicy", from_gymnasium(task.env, 8), **settings)


def learn(names: Sequence[str], libraries: Sequence[str], seeds: int) -> None:
    """Fill the table, a cell at a time, seeds outermost so that an early stop leaves all libraries alike."""
    cells = Cells(FOLDER / "learning.csv", ("task", "library", "seed"))
    for seed in range(seeds):
        for name in names:
            for library in libraries:
                if cells.done({"task": name, "library": library, "seed": seed}):
                    continue
                task = TASKS[name]
                model, trials = make(task, library, seed), Trials(task, seed)
                began = time.perf_counter(), time.process_time()
                model.learn(task.steps, callback=trials)
                seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
                reached = next((step for step, value in trials.curve if value >= task.goal), float("inf"))
                last = float(np.mean([value for _, value in trials.curve[-3:]]))
                cells.add({
                    "task": name, "library": library, "seed": seed, "steps": model.num_timesteps,
                    "steps_to_goal": reached, "final": round(last, 2),
                    "mean": round(float(np.mean([value for _, value in trials.curve])), 2),
                    "seconds": round(seconds - trials.seconds, 2), "cpu_seconds": round(cpu - trials.cpu, 2),
                    "curve": json.dumps([[step, round(value, 1)] for step, value in trials.curve]),
                })  # fmt: skip
                print(f"{name} {library} seed {seed}: last three trials {last:.1f}, goal at {reached:,.0f} steps, "
                      f"{cpu - trials.cpu:.0f} s of process time", flush=True)  # fmt: skip
    lines = ["| task | library | seeds | last three trials, IQM | 95 % | steps to the goal, IQM | 95 % | s (process) |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in TASKS:
        for library in LIBRARIES:
            rows = [row for row in cells.rows() if row["task"] == name and row["library"] == library]
            if rows:
                final, reach, times = (
                    [float(row[key]) for row in rows] for key in ("final", "steps_to_goal", "cpu_seconds")
                )
                (a, b), (c, d) = interval(final), interval(reach)
                lines.append(f"| {name} | {library} | {len(rows)} | {iqm(final):.1f} | {a:.1f} to {b:.1f} | "
                             f"{iqm(reach):,.0f} | {c:,.0f} to {d:,.0f} | {iqm(times):.0f} |")  # fmt: skip
    report("learning.md", lines)


SPEEDS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "DQN CartPole x1": ("DQN", "CartPole-v1", 1, {}),
    "DQN CartPole x16": ("DQN", "CartPole-v1", 16, {"train_freq": 1}),
    "DQN CartPole x256": ("DQN", "CartPole-v1", 256, {"train_freq": 1, "batch_size": 256}),
    "DQN DoorKey-8x8 x256": ("DQN", "cairn/MiniGrid-DoorKey-8x8-v0", 256, {"train_freq": 1, "batch_size": 256}),
    "SAC Pendulum x1": ("SAC", "Pendulum-v1", 1, {"policy_kwargs": {"net_arch": [64, 64]}}),
    "SAC Pendulum x16": ("SAC", "Pendulum-v1", 16, {"policy_kwargs": {"net_arch": [64, 64]}}),
    "TD3 Pendulum x1": ("TD3", "Pendulum-v1", 1, {"policy_kwargs": {"net_arch": [64, 64]}}),
}


def speed(rounds: int, seconds: float) -> None:
    """Steps per second of process time, in alternation."""
    cells = Cells(FOLDER / "speed.csv", ("case", "round"))
    for turn in range(rounds):
        for case, (algorithm, env, lanes, options) in SPEEDS.items():
            if cells.done({"case": case, "round": turn}):
                continue
            options = {
                "train_freq": 4 if algorithm == "DQN" else 1, "gradient_steps": 1, "batch_size": 256,
                "buffer_size": 50_000, "learning_starts": 256, "seed": 0, "device": "cpu", **deepcopy(options),
            }  # fmt: skip
            theirs = _rate(lambda: _theirs(algorithm, env, lanes, options), lanes, seconds)  # noqa: B023
            ours = _rate(lambda: _ours(algorithm, env, lanes, options), lanes, seconds)  # noqa: B023
            cells.add({"case": case, "round": turn, "sb3": round(theirs, 1), "cairn": round(ours, 1)})
            print(f"{case}: sb3 {theirs:,.0f}, cairn {ours:,.0f} steps/s, ratio {ours / theirs:.2f}", flush=True)
    lines = ["| case | sb3, steps per process second | cairn | ratio |", "|---|---|---|---|"]
    for case in SPEEDS:
        rows = [row for row in cells.rows() if row["case"] == case]
        if rows:
            theirs, ours = (float(np.median([float(row[key]) for row in rows])) for key in ("sb3", "cairn"))
            ratio = float(np.median([float(row["cairn"]) / float(row["sb3"]) for row in rows]))
            lines.append(f"| {case} | {theirs:,.0f} | {ours:,.0f} | {ratio:.2f} |")
    report("speed.md", lines)


def _theirs(algorithm: str, env: str, lanes: int, options: dict[str, Any]) -> Any:
    batch = env.startswith("cairn/")
    venv = as_sb3(gym.make_vec(env, num_envs=lanes)) if batch else make_vec_env(env, lanes)
    return getattr(sb3, algorithm)("MlpPolicy", venv, **deepcopy(options))


def _ours(algorithm: str, env: str, lanes: int, options: dict[str, Any]) -> Any:
    batch: Any = gym.make_vec(env, num_envs=lanes) if env.startswith("cairn/") else from_gymnasium(env, lanes)
    return getattr(agents, algorithm)("MlpPolicy", batch, **options)


def _rate(build: Callable[[], Any], lanes: int, seconds: float) -> float:
    model = build()
    model.learn(600 + 2 * lanes)
    steps, began = model.num_timesteps, time.process_time()
    while time.process_time() - began < seconds:
        model.learn(max(200, 8 * lanes), reset_num_timesteps=False)
    return float((model.num_timesteps - steps) / (time.process_time() - began))


def report(name: str, lines: list[str]) -> None:
    """Print a table, and keep it with the machine that made it."""
    about = ", ".join(f"{key} {value}" for key, value in machine().items())
    text = "\n".join([*lines, "", about, ""])
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(text)
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=[n for n in TASKS if "Cheetah" not in n])
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--speed", action="store_true", help="measure steps per second instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of process time for each measurement of speed")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.speed:
        speed(args.rounds, args.seconds)
    else:
        learn(args.tasks, args.libraries, args.seeds)


if __name__ == "__main__":
    main()
