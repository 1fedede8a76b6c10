"""One cell of ``cairn bench solve``: a process of its own that trains until the frozen policy passes, or gives up.

``python -m cairn.benchmarks.solve_cell SPEC.json RESULT.json`` is what the table starts for each cell, so that its
clock begins with a process. What a cell is made of stands in the JSON that it is given; nothing here knows tasks.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

MANY, FEW, HOPE = 2000, 100, 0.01
"""Training episodes that tell whether a cell is hopeless, and whether a trial is worth its time; the first's share."""


class Spec(TypedDict):
    """What a cell is given."""

    name: str
    """What the progress line calls it."""
    env: str
    """The id, under ``cairn/``; ``learner`` "sb3" trains on upstream's of the same name."""
    args: dict[str, Any]
    """Arguments of the environment."""
    reward: str
    settings: dict[str, Any]
    """PPO's, and ``num_envs``."""
    learner: str
    """``cairn`` or ``sb3``."""
    seed: int
    threads: int
    every: int
    """Steps between two trials of the frozen policy; a twentieth of all steps where that is more."""
    levels: int
    """Fresh levels of a trial."""
    criterion: float
    near: float
    """How far below the criterion the training episodes may be for a trial to be worth its time."""
    budget: float
    """Seconds from the start of the process, trials taken off; or steps."""
    clock: str
    """What the budget is of: ``process`` or ``training``; ``cpu`` or ``training cpu``, these in seconds of the
    processors; or ``steps``."""
    fruitless: int
    """Steps after which a cell gives up while less than ``HOPE`` of the last ``MANY`` training episodes succeed; 0 for
    never. Many, because lanes that began together fail together: the last hundred may all be failures of one step."""
    began: float
    """``time.monotonic()`` when the process was started."""


class Done(Exception):
    """Leaves ``learn`` at an update boundary."""


class Cell:
    """Trials on a fixed schedule, two clocks without them, and the end."""

    def __init__(self, spec: Spec, trial: Callable[[str], Any], recent: Callable[[int], float | None]) -> None:
        """``trial`` tries the frozen policy on the levels of a name; ``recent``: the last episodes' success."""
        self.spec, self.trial, self.recent = spec, trial, recent
        self.curve: list[tuple[int, float]] = []
        self.last: Any = None
        self.aside = self.aside_cpu = 0.0  # seconds that trials took
        self.due = spec["every"]
        self.begun = self.shown = time.monotonic()  # of training
        self.begun_cpu = time.process_time()

    def process_seconds(self) -> float:
        """Since the process was started, without trials."""
        return time.monotonic() - self.spec["began"] - self.aside

    def training_seconds(self) -> float:
        """Since ``learn`` was called, without trials."""
        return time.monotonic() - self.begun - self.aside

    def cpu_seconds(self) -> float:
        """Of all threads of the process, without trials."""
        return time.process_time() - self.aside_cpu

    def training_cpu_seconds(self) -> float:
        """Of all threads of the process since ``learn`` was called, without trials."""
        return self.cpu_seconds() - self.begun_cpu

    def boundary(self, steps: int) -> None:
        """Look at the clock, and try the policy where that is due.

        Raises:
            Done: It has passed, or the budget is spent.
        """
        clocks = {
            "process": self.process_seconds, "training": self.training_seconds,
            "cpu": self.cpu_seconds, "training cpu": self.training_cpu_seconds,
        }  # fmt: skip
        clock, recent = self.spec["clock"], self.recent(FEW)
        spent = steps if clock == "steps" else clocks[clock]()
        fruitless = 0 < self.spec["fruitless"] <= steps and (self.recent(MANY) or 0.0) < HOPE
        over = steps > 0 and (spent >= self.spec["budget"] or fruitless)
        due = steps >= self.due
        while steps >= self.due:
            self.due += max(self.spec["every"], self.due // 20)
        if over or (due and recent is not None and recent >= self.spec["criterion"] - self.spec["near"]):
            self.attempt(steps)
        if time.monotonic() - self.shown > 0.5 or over:
            self.shown = time.monotonic()
            tried = f", frozen {self.curve[-1][1]:.3f}" if self.curve else ""
            share = f"{spent / self.spec['budget']:.0%} of its {self.spec['clock']}" if self.spec["budget"] else "warm"
            told = f"{self.spec['name']}: {self.process_seconds():6.1f} s, {steps:,} steps, {share}"
            print(f"\r{told}, training {recent or 0:.3f}{tried}   ", end="", flush=True)
        if over or self.passed:
            raise Done

    @property
    def passed(self) -> bool:
        """Whether the last trial reached the criterion."""
        return self.last is not None and self.last.success >= self.spec["criterion"]

    def attempt(self, steps: int) -> None:
        """Try the frozen policy on levels that nothing else has."""
        wall, cpu = time.monotonic(), time.process_time()
        self.last = self.trial(f"{steps}")
        self.curve.append((steps, self.last.success))
        self.aside, self.aside_cpu = self.aside + time.monotonic() - wall, self.aside_cpu + time.process_time() - cpu

    def result(self, steps: int) -> dict[str, Any]:
        """What the table keeps; the policy is tried once more, on as many other levels."""
        found = {
            "solved": int(self.passed),
            "steps": steps,
            "process_seconds": round(self.process_seconds(), 2),
            "training_seconds": round(self.training_seconds(), 2),
            "trial_seconds": round(self.aside, 2),
            "cpu_seconds": round(self.cpu_seconds(), 2),
            "training_cpu_seconds": round(self.training_cpu_seconds(), 2),
        }
        again = self.trial(f"{steps} again")
        return {
            **found,
            "success": self.last.success,
            "again": again.success,
            "return": round(again.return_mean, 4),
            "curve": " ".join(f"{step}:{success:.3f}" for step, success in self.curve),
        }


def solve(spec: Spec) -> dict[str, Any]:
    """Train Cairn's PPO or Stable-Baselines3's until the frozen policy passes, or the budget is spent."""
    from cairn._lazy import collector_at_rest

    with collector_at_rest():
        import torch
        from stable_baselines3.common.callbacks import BaseCallback

        from cairn.agents.evaluation import evaluate_batch, fresh_seed

    torch.set_num_threads(spec["threads"])
    model, recent, frozen = {"cairn": ours, "sb3": theirs}[spec["learner"]](spec)
    kept: list[Any] = []

    def trial(name: str) -> Any:
        if not kept:
            kept.append(batch(spec, spec["levels"]))
        act = frozen()
        narrow = not hasattr(act, "reset")  # a memory has its lane
        return evaluate_batch(act, kept[0], spec["levels"], fresh_seed(spec["seed"], "solve", name), narrow=narrow)

    cell = Cell(spec, trial, recent)

    class Boundary(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:  # the update before is complete
            cell.boundary(self.model.num_timesteps)

    try:
        model.learn(sys.maxsize, Boundary(), log_interval=None)
    except Done:
        pass
    return cell.result(model.num_timesteps)


def batch(spec: Spec, lanes: int) -> Any:
    """The task as a batch of ``lanes``."""
    import gymnasium as gym

    import cairn  # noqa: F401  (registers the ids)

    return gym.make_vec(f"cairn/{spec['env']}", num_envs=lanes, device="cpu", **spec["args"])


Made = tuple[Any, Callable[[int], float | None], Callable[[], Any]]
"""A model, the success of its last so many training episodes, and a maker of its frozen policy."""


def ours(spec: Spec) -> Made:
    """Cairn's PPO on a batch."""
    from cairn.agents import PPO
    from cairn.agents.training import acting

    settings = dict(spec["settings"])
    envs = batch(spec, settings.pop("num_envs"))
    model = PPO("MlpPolicy", envs, reward=spec["reward"], seed=spec["seed"], stats_window_size=MANY, **settings)
    first = envs.num_envs * (envs.max_steps or 0)  # until then only successes can have ended

    def recent(episodes: int) -> float | None:
        won = list(model.ep_success_buffer or ())[-episodes:] if model.num_timesteps >= first else []
        return sum(won) / len(won) if won else None

    return model, recent, lambda: acting(model, False)


def theirs(spec: Spec) -> Made:
    """Stable-Baselines3's PPO on upstream's environments, one-hot, with the same expression around each."""
    import os

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import gymnasium as gym
    import minigrid  # noqa: F401  (registers upstream's ids)
    import stable_baselines3 as sb3
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    from cairn.shaping import ShapedReward

    settings = dict(spec["settings"])

    def one() -> Any:
        env = Monitor(gym.make(spec["env"], **spec["args"]))  # inside: it counts the task's own return
        return one_hot(ShapedReward(env, spec["reward"], gamma=settings.get("gamma", 0.99)))

    envs = DummyVecEnv([one] * settings.pop("num_envs"))
    model = sb3.PPO("MlpPolicy", envs, seed=spec["seed"], device="cpu", **settings)

    def recent(episodes: int) -> float | None:
        ends = list(model.ep_info_buffer or ())[-episodes:]
        return sum(end["r"] > 0 for end in ends) / len(ends) if ends else None

    def act(obs: Any) -> torch.Tensor:
        action, _ = model.predict(flat_one_hot(obs["image"].numpy(), obs["direction"].numpy()), deterministic=False)
        return torch.as_tensor(action)

    return model, recent, lambda: act


SIZES = (11, 6, 3)
"""Types, colours and states of a cell, as in upstream's ``OneHotPartialObsWrapper``."""


def flat_one_hot(image: Any, direction: Any) -> Any:
    """Cells ``[B, 7, 7, 3]`` and compass directions ``[B]`` as one-hot float32 ``[B, 7 * 7 * 20 + 4]``."""
    import numpy as np

    parts = [np.eye(size, dtype=np.float32)[image[..., i]] for i, size in enumerate(SIZES)]
    cells = np.concatenate(parts, -1).reshape(len(image), -1)
    return np.concatenate([cells, np.eye(4, dtype=np.float32)[direction]], -1)


def one_hot(env: Any) -> Any:
    """An environment whose observation is ``flat_one_hot`` of MiniGrid's."""
    import gymnasium as gym
    import numpy as np

    height, width, _ = env.observation_space["image"].shape
    space = gym.spaces.Box(0.0, 1.0, (height * width * sum(SIZES) + 4,), np.float32)

    def flat(obs: Any) -> Any:
        return flat_one_hot(obs["image"][None], np.asarray([obs["direction"]]))[0]

    return gym.wrappers.TransformObservation(env, flat, space)


def main(argv: list[str] | None = None) -> None:
    """Read a spec, live the cell, write the result."""
    given, found = map(Path, sys.argv[1:] if argv is None else argv)
    result = solve(json.loads(given.read_text()))
    found.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
