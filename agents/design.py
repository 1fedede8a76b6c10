"""Agents trained side by side on the candidates of a reward search (``shaping.language.search``)."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from ..envs.batch import BatchEnv
from ..shaping.language.search.candidate import Trial
from ..shaping.language.search.recorded import record
from ..shaping.reward import RewardError
from .evaluation import evaluate_batch, fresh_seed
from .loop import Rows
from .training import acting

BROKEN = (RewardError, ValueError, RuntimeError, FloatingPointError)
"""What a reward may do to a training; the candidate is lost, and the search goes on."""


@dataclass
class _Runner:
    """One training of several, with a random stream of its own."""

    model: Any
    reward: Any
    rows: Rows
    stages: list[BatchEnv]
    stream: torch.Tensor
    course: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


@dataclass
class SideBySide:
    """Trains an agent on each of several rewards, all of them a slice at a time.

    Every agent has a batch of environments of its own with the same levels, and a random stream of its own, so that a
    candidate's training is the same bits whatever is trained beside it.

    Args:
        make_env: Makes a batch; called for each candidate and each stage.
        steps: Environment steps of each agent, over all stages.
        make_agent: Makes an agent of a batch and a reward (``seed=`` is given); None is PPO.
        agent_args: Settings for PPO, where ``make_agent`` is None.
        curriculum: Makers of easier batches with the same spaces, on which the agent is trained before (Eureka's pen
            spinning): every stage gets the same share of the steps.
        moments: Slices of a training; the course has a value for each.
        episodes: Fresh episodes at the end, from which the score comes.
        keep_episodes: How many of them are kept whole, for the analyser and the gate.
        deterministic: Whether the trained agent takes its likeliest action in them instead of drawing.
    """

    make_env: Callable[[], BatchEnv]
    steps: int
    make_agent: Callable[..., Any] | None = None
    agent_args: Mapping[str, Any] = field(default_factory=dict)
    curriculum: tuple[Callable[[], BatchEnv], ...] = ()
    moments: int = 10
    episodes: int = 100
    keep_episodes: int = 32
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.moments < 1 or self.episodes < 1:
            raise ValueError("SideBySide: steps, moments and episodes are at least 1")

    def train(self, rewards: Sequence[Any], seed: int = 0) -> list[Trial]:
        """Train on each reward; see ``Trials``."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            runners = [self._begin(reward, seed, stack) for reward in rewards]
            makers = len(self.curriculum) + 1
            for stage in range(makers):
                share = self.steps // makers
                for moment in range(self.moments):
                    until = stage * share + share * (moment + 1) // self.moments
                    for runner in runners:
                        self._slice(runner, stage, moment, until, seed)
            return [self._end(runner, seed) for runner in runners]

    def _begin(self, reward: Any, seed: int, stack: ExitStack) -> _Runner:
        torch.manual_seed(seed)
        stages = [make() for make in (*self.curriculum, self.make_env)]
        for env in stages:
            stack.callback(env.close)
        rows = Rows()
        runner = _Runner(None, reward, rows, stages, torch.get_rng_state())
        try:
            runner.model = self._agent(stages[0], deepcopy(reward), seed)
            runner.model.set_logger(Logger(folder=None, output_formats=[rows]))
        except BROKEN as error:
            runner.error = f"{type(error).__name__}: {error}"
        runner.stream = torch.get_rng_state()
        return runner

    def _agent(self, env: BatchEnv, reward: Any, seed: int) -> Any:
        if self.make_agent is not None:
            return self.make_agent(env, reward=reward, seed=seed)
        from .ppo import PPO

        return PPO("MlpPolicy", env, reward=reward, seed=seed, **self.agent_args)

    def _moved(self, runner: _Runner, stage: int, seed: int) -> Any:
        """An agent on the next stage's batch with the networks of the one before; facts may differ in size."""
        before = runner.model
        after = self._agent(runner.stages[stage], deepcopy(runner.reward), seed)
        after.policy.load_state_dict(before.policy.state_dict())
        after.num_timesteps = before.num_timesteps
        after.set_logger(before.logger)
        return after

    def _slice(self, runner: _Runner, stage: int, moment: int, until: int, seed: int) -> None:
        """Go on with one training until it has taken so many steps."""
        if runner.error:
            return
        begun = time.perf_counter()
        torch.set_rng_state(runner.stream)
        try:
            if stage and moment == 0:
                runner.model = self._moved(runner, stage, seed)
            missing = until - runner.model.num_timesteps
            first = runner.model.num_timesteps == 0
            if missing > 0:
                runner.model.learn(missing, reset_num_timesteps=first)
        except BROKEN as error:
            runner.error = f"{type(error).__name__}: {error}"
        runner.stream = torch.get_rng_state()
        runner.seconds += time.perf_counter() - begun
        if runner.rows.fresh:
            for name, value in course_of(runner.rows.row).items():
                runner.course.setdefault(name, []).append(value)
            runner.rows.fresh = False

    def _end(self, runner: _Runner, seed: int) -> Trial:
        """Try the trained agent on fresh levels."""
        taken = 0 if runner.model is None else int(runner.model.num_timesteps)
        if runner.error:
            return Trial(float("nan"), runner.course, taken, runner.seconds, runner.error)
        env, act = runner.stages[-1], acting(runner.model, self.deterministic)
        told = evaluate_batch(act, env, self.episodes, fresh_seed(seed, "reward design"))
        kept = record(env, act, self.keep_episodes, fresh_seed(seed, "kept")) if self.keep_episodes else None
        score = told.return_mean if told.success is None else told.success
        return Trial(score, runner.course, taken, runner.seconds, episodes=kept)


def course_of(row: Mapping[str, float]) -> dict[str, float]:
    """What a reflection shows of a row of the log: the program's components, the task's return and success."""
    told = {}
    for name, value in row.items():
        folder, _, rest = name.partition("/")
        if folder == "reward" and "/" in rest and not rest.endswith("/faults"):
            told[rest.partition("/")[2]] = value
        elif name == "rollout/ep_rew_mean":
            told["task return"] = value
        elif name == "rollout/success_rate":
            told["success"] = value
    return told
