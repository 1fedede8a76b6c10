"""Train an agent into a run folder, go on after a stop, and look at what it can do.

``train`` and ``resume`` are what ``cairn train`` and ``cairn resume`` call. Everything that the next update
depends on is saved at update boundaries, so a run that was killed goes on to the same bits as one that was not.
"""

import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from ..envs.batch import BatchEnv
from ..runs import Run, version_note
from ..shaping.state import unpack
from .config import ConfigError, TrainConfig, check, free_folder, from_json, run_folder, to_json
from .evaluation import Act, Evaluation, evaluate_batch, fresh_seed, own_randomness
from .loop import Loop, Stop, passed, signals
from .memory import MemoryPolicy, Recalling
from .pictures import Caption, Frame, captioned, learning_curve, mission_of, write_video
from .progress import Reporter, Silent
from .table import agent_class, nearest

__all__ = ["ConfigError", "Outcome", "TrainConfig", "evaluate", "free_folder", "play", "resume", "train"]

OURS = {"policy", "env", "reward", "seed", "device", "verbose", "tensorboard_log"}
"""Constructor arguments that a run's config sets elsewhere, or that name a place on the disk."""

LANES = 256
"""The most environments that an evaluation steps side by side."""


@dataclass(frozen=True)
class Outcome:
    """How a training run ended."""

    run: Path
    """The run folder."""
    steps: int
    """Environment steps taken in all."""
    why: str
    """``steps`` (all done), ``success`` (the goal was reached), ``time`` or ``signal`` (saved, may go on)."""
    seconds: float
    """Wall-clock time of this call, building included."""
    trial: Evaluation | None = None
    """The last trial of the frozen agent on fresh levels, if there was one."""
    signum: int | None = None
    """The signal that stopped it."""


def train(
    config: TrainConfig,
    *,
    reward: Any = None,
    report: Reporter | None = None,
    max_seconds: float | None = None,
) -> Outcome:
    """Train an agent from scratch into a new run folder.

    Ctrl-C and SIGTERM (in the main thread) end the update at hand, save and return; a second one stops at once.

    Args:
        config: What to train.
        reward: A term or reward object in place of ``config.reward``'s text, for terms that have no text.
        report: Is told the progress; nothing is printed without one.
        max_seconds: Stop at the first update boundary after so much time, saved, with ``why="time"``.

    Raises:
        ConfigError: The config cannot be run; nothing has been written then.
        FileExistsError: The run folder exists.
    """
    began = time.monotonic()
    check(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    path = run_folder(config.run, config.env, config.agent)
    model = _build(config, config.num_envs, reward)
    if config.stop_success is not None and not _tells_success(config):
        raise ConfigError(f"{config.env} does not tell success, so stop_success can never be met; leave it out")
    text = config.reward if reward is None else _text_of(reward)
    agent_args = {
        **model.settings(),
        **config.agent_args,
    }  # so that a run goes on with these, whatever the defaults become
    config = replace(config, run=str(path), reward=text, threads=torch.get_num_threads(), agent_args=agent_args)
    report = report or Silent()
    with Run.create(path, {"train": to_json(config)}) as run:
        report.say(f"run folder {path}: {config.agent} on {config.num_envs} x {config.env}")
        return _go(run, config, model, report, began, max_seconds)


def resume(
    run: str | Path,
    *,
    steps: int | None = None,
    reward: Any = None,
    report: Reporter | None = None,
    max_seconds: float | None = None,
) -> Outcome:
    """Go on with a run from its last good checkpoint, to the same bits as if it had never stopped.

    Args:
        run: The run folder.
        steps: Train up to so many steps in all, instead of the config's.
        reward: The reward object, where the run's reward has no text.
        report: Is told the progress.
        max_seconds: As for ``train``.

    Raises:
        ConfigError: The run's reward has no text and ``reward`` is missing, or its config cannot be run.
        CheckpointError: There is no good checkpoint; the message names the file and its fault.
        RunBusy: Another process trains into the folder.
    """
    began = time.monotonic()
    report = report or Silent()
    with Run.open(run) as folder:
        config = from_json(folder.config.get("train"))
        if config.reward is None and reward is None:
            raise ConfigError(
                f"the reward of {run} has no text form; resume it in Python, with the same terms: "
                f"cairn.agents.training.resume({str(run)!r}, reward=...)"
            )
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        if note := version_note(folder.versions):
            report.say(note)
        folder.claim()
        saved = folder.latest()
        meta = None if saved is None else saved[1]
        config = replace(config, run=str(run), steps=steps or config.steps)
        model = _build(config, config.num_envs, reward)
        if saved is None:
            report.say(f"{run} was stopped before its first checkpoint: beginning again, from the same seed")
        else:
            try:
                model.load_training_state(saved[2]["model"])
            except (ValueError, KeyError, RuntimeError) as error:
                where = f"{run}: the checkpoint at step {saved[0]}"
                raise ConfigError(f"{where} does not fit its config: {error}") from error
        folder.resume_metrics(meta)
        return _go(folder, config, model, report, began, max_seconds, meta)


def evaluate(
    run: str | Path,
    episodes: int = 100,
    *,
    seed: int = 0,
    deterministic: bool = False,
    device: str | None = None,
    reward: Any = None,
    opponent: str | None = None,
) -> Evaluation:
    """Play fresh levels with the frozen agent of a run's last checkpoint.

    Args:
        run: The run folder.
        episodes: How many levels; each is played once.
        seed: Chooses the levels; none of them is one that training used, whatever its seed.
        deterministic: Take the likeliest action instead of drawing one.
        device: Where to play; the run's own device if left out.
        reward: The reward object, where the run's reward has no text and more than one value head.
        opponent: Of a league: "itself", as it is now; "past" selves, drawn evenly; the "hardest" of them; "random"
            actions; or the run folder of another league in the same game. Left out, it sits on both seats.

    Raises:
        ConfigError: The run's config cannot be run, ``episodes`` is less than 1, or there is no such opponent.
        CheckpointError: There is no good checkpoint.
    """
    if episodes < 1:
        raise ConfigError(f"episodes is {episodes}; it must be at least 1")
    config, model = _load(run, device, reward)
    env = _batch(config, min(episodes, LANES), device)
    try:
        seed = fresh_seed(seed, "eval")
        if opponent is not None:
            return _against(model, opponent, env, episodes, seed, deterministic)
        found = evaluate_batch(acting(model, deterministic), env, episodes, seed, deterministic=deterministic)
        return replace(found, opponent="itself") if hasattr(model, "pool") else found
    finally:
        env.close()


def _against(model: Any, opponent: str, env: BatchEnv, episodes: int, seed: int, deterministic: bool) -> Evaluation:
    """Play an opponent by name."""
    if not hasattr(model, "pool"):
        raise ConfigError(f"an opponent is for games of two that a league has learned, not {type(model).__name__}")
    from .multi.league import OPPONENTS, Rival, against

    if opponent in OPPONENTS or not Path(opponent).is_dir():
        other, kind = model, opponent
    else:
        config, other = _load(opponent, str(model.device), None)
        if not hasattr(other, "pool") or other.observation_space != model.observation_space:
            raise ConfigError(f"{opponent} is no league of the same game: it is {config.agent} in {config.env}")
        kind = "itself"
    try:
        found = against(model, Rival(other, kind), env, episodes, seed, deterministic)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return found if other is model else replace(found, opponent=opponent)


def play(
    run: str | Path,
    video: str | Path | None = None,
    *,
    episodes: int = 5,
    seed: int = 0,
    deterministic: bool = False,
    fps: int = 10,
    reward: Any = None,
) -> Path:
    """Film the frozen agent of a run's last checkpoint on fresh levels.

    Args:
        run: The run folder.
        video: The MP4 to write; ``play.mp4`` in the run folder if left out.
        episodes: How many levels to show.
        seed: Chooses them.
        deterministic: Take the likeliest action instead of drawing one.
        fps: Steps a second.
        reward: As for ``evaluate``.

    Returns:
        The path of the video.

    Raises:
        ConfigError: The run's config cannot be run, or its environment cannot be rendered.
        CheckpointError: There is no good checkpoint.
    """
    if episodes < 1 or fps < 1:
        raise ConfigError(f"episodes and fps must be at least 1, got {episodes} and {fps}")
    Run.open(run).path("play.mp4")  # refuses a link in the run folder
    path = Path(run) / "play.mp4" if video is None else Path(video)
    if path.suffix != ".mp4" or not path.parent.is_dir():
        raise ConfigError(f"{path} must end in .mp4 and lie in a folder that exists")
    config, model = _load(run, "cpu", reward)
    try:
        env = gym.make(config.env, **{**config.env_args, "render_mode": "rgb_array"})
    except (TypeError, ValueError, gym.error.Error) as error:
        raise ConfigError(f"{config.env} cannot be filmed: {error}") from error
    with own_randomness(fresh_seed(seed, "play")):
        write_video(_film(model, env, config.env, episodes, seed, deterministic, fps), path, fps)
    env.close()
    return path


def _film(
    model: Any, env: gym.Env[Any, Any], name: str, episodes: int, seed: int, deterministic: bool, fps: int
) -> Iterator[Frame]:
    """The captioned frames of some episodes, the last of each held for a second."""
    for episode in range(episodes):
        obs, info = env.reset(seed=fresh_seed(seed, "play", episode))
        head, total, step, ended = mission_of(obs, name), 0.0, 0, False
        state: Any = None
        each = np.zeros(0)  # a team's returns, agent by agent
        while True:
            foot = f"level {episode + 1} of {episodes}   step {step}   return {total:.2f}{_held(env)}{_each(each)}"
            won = bool(info.get("success", info.get("is_success", total > 0))) if ended else None
            frame = captioned(np.asarray(env.render()), Caption(head, foot, won))
            yield from [frame] * (fps if ended else 1)
            if ended:
                break
            action, state = model.predict(obs, state=state, deterministic=deterministic)
            obs, reward, terminated, truncated, info = env.step(action)
            total, step, ended = total + float(reward), step + 1, terminated or truncated
            if "agent_reward" in info:
                each = info["agent_reward"] + (each if each.size else 0.0)


def _held(env: gym.Env[Any, Any]) -> str:
    """What a MiniGrid agent has in its hand, which its pictures do not show."""
    held = getattr(env.unwrapped, "carrying", None)
    return "" if held is None else f"   carrying {getattr(held, 'color', '')} {getattr(held, 'type', held)}"


def _each(returns: Any) -> str:
    """The agents of a team by the colours that pictures have them in, with their returns."""
    from ..envs.multi.pictures import PALETTE

    return "".join(f"   {PALETTE[a % len(PALETTE)][0]} {own:.2f}" for a, own in enumerate(returns))


def _go(
    run: Run,
    config: TrainConfig,
    model: Any,
    report: Reporter,
    began: float,
    max_seconds: float | None,
    meta: dict[str, Any] | None = None,
) -> Outcome:
    """Train until something ends it, leave a checkpoint and the picture, and say how it ended."""
    trial_envs: list[BatchEnv] = []

    def trial(step: int) -> Evaluation:
        if not trial_envs:
            trial_envs.append(_batch(config, min(config.eval_episodes, LANES)))
        seed = fresh_seed(config.seed, "trial", step)
        return evaluate_batch(acting(model, False), trial_envs[0], config.eval_episodes, seed)

    deadline = float("inf") if max_seconds is None else began + max_seconds
    loop = Loop(run, config, trial, report, deadline)
    step = model.num_timesteps if meta is not None else 0
    if meta is not None:
        loop.begin(step)
    if meta is not None and passed(config.stop_success, (meta.get("trial") or {}).get("success")):
        loop.why = "success"
    elif step < config.steps:
        model.set_logger(Logger(folder=None, output_formats=[loop.rows]))
        try:
            with report, signals(loop):
                model.learn(config.steps - step, callback=loop, reset_num_timesteps=meta is None)
        except Stop:
            pass
        except (ValueError, TypeError, KeyError) as error:
            if loop.done > step:
                raise
            raise ConfigError(f"{config.env} with the reward {config.reward!r} fails at once: {error}") from error
        finally:
            for env in trial_envs:
                env.close()
    learning_curve(
        run.metrics(), run.path("curve.png"), f"{config.env}, {config.agent}, seed {config.seed}", config.stop_success
    )
    why, seconds = loop.why, time.monotonic() - began
    return Outcome(Path(config.run or ""), model.num_timesteps, why, seconds, loop.trial, loop.signum)


# ---- building ------------------------------------------------------------------------------------------


def _batch(config: TrainConfig, num_envs: int, device: str | None = None, pictures: bool = False) -> BatchEnv:
    """The config's environments, as a batch of ``num_envs``; with pictures, where a reward looks at them."""
    device = device or config.device
    args = {**config.env_args, "render_mode": "rgb_array"} if pictures else config.env_args
    if config.env.startswith("cairn/"):
        made = gym.make_vec(config.env, num_envs=num_envs, device=device, **args)
        assert isinstance(made, BatchEnv)
        return made
    from ..envs.bridges import from_gymnasium

    return from_gymnasium(config.env, num_envs, device=device, **args)


def _build(config: TrainConfig, num_envs: int, reward: Any = None, device: str | None = None) -> Any:
    """The agent of a config on its environments; whatever does not fit together is a ``ConfigError``."""
    from ..shaping.grammar import parse
    from ..shaping.reward import as_reward

    cls = agent_class(config.agent)
    known = [name for name in inspect.signature(cls).parameters if name not in OURS and not name.startswith("_")]
    for name in config.agent_args:
        if name not in known:
            raise ConfigError(
                f"{config.agent} has no setting {name!r}{nearest(name, known)}; it has {', '.join(known)}"
            )
    try:
        if reward is None and config.reward is not None:
            reward = parse(config.reward)
    except ValueError as error:  # its other lines show where, for a wider screen than an error has
        raise ConfigError(f"{str(error).splitlines()[0].rstrip(':')}: {config.reward}") from error
    try:
        env = _batch(config, num_envs, device, pictures=as_reward(reward).pictures)
        device = device or config.device
        return cls("MlpPolicy", env, reward=reward, seed=config.seed, device=device, **config.agent_args)
    except (
        ValueError, TypeError, AssertionError, RuntimeError, MemoryError, ImportError, gym.error.Error,
    ) as error:  # fmt: skip
        raise ConfigError(str(error) or repr(error)) from error


def _tells_success(config: TrainConfig) -> bool:
    """Whether the environment knows when it has been solved."""
    env = _batch(config, 1)
    known = "success" in env.reset(seed=0)[1].get("facts", {})
    env.close()
    return known


def _text_of(reward: Any) -> str | None:
    """A reward object's own text, where it has one."""
    from ..shaping.reward import as_reward

    return as_reward(reward).text


def acting(model: Any, deterministic: bool) -> Act:
    """The agent's frozen policy as a function of a batch of observations."""
    policy = model.policy
    team = getattr(model, "act_team", None)
    if team is not None:
        policy.set_training_mode(False)
        return lambda obs: team(obs, deterministic)
    if isinstance(policy, MemoryPolicy):
        policy.set_training_mode(False)
        return Recalling(policy, deterministic)

    def act(obs: Any) -> torch.Tensor:
        policy.set_training_mode(False)
        actions: torch.Tensor = policy.act(obs, deterministic)
        return actions

    return act


def _load(run: str | Path, device: str | None, reward: Any) -> tuple[TrainConfig, Any]:
    """A run's config, and its agent as the last good checkpoint has it."""
    folder = Run.open(run)
    config = from_json(folder.config.get("train"))
    saved = folder.latest()
    if saved is None:
        raise ConfigError(f"{run} has no checkpoint yet")
    model = _build(config, 1, reward, device)
    try:
        unpack(model.policy, saved[2]["model"]["policy"])
        if hasattr(model, "pool"):
            unpack(model.pool, saved[2]["model"]["pool"])
    except (ValueError, KeyError, RuntimeError) as error:
        hint = "" if config.reward is not None else " (its reward has no text: pass it as reward= in Python)"
        raise ConfigError(f"{run}: the checkpoint at step {saved[0]} does not fit its config{hint}: {error}") from error
    return config, model
