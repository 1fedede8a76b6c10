"""What a reward search is asked to do: ``DesignConfig`` and its checks. Nothing here imports torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .config import ConfigError, Options, Steps, TrainConfig, check, check_env_id

SEARCHES = ("eureka", "text2reward", "auto-mc")


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """Everything that a reward search is made from.

    Raises (from ``check_design``):
        ConfigError: A name is unknown or a number makes no sense.
    """

    env: Positional[Annotated[str, arg(metavar="ID")]]
    """The environment's id: one of those that `cairn envs` lists, or any other Gymnasium id."""

    task: Annotated[str, arg(metavar="SENTENCE")]
    """What the agent shall do, in a sentence; it is what the model reads."""

    search: Literal["eureka", "text2reward", "auto-mc"] = "eureka"
    """Many samples a round and a reflection on the best; one program and rounds of feedback; or designer, critic and
    trajectory analyser, with a reward that is bounded by construction."""

    server: Annotated[str | None, arg(metavar="URL")] = None
    """An OpenAI-compatible server that writes, such as http://127.0.0.1:8000/v1."""

    model: Annotated[str | None, arg(metavar="NAME")] = None
    """The server's name for the model."""

    key_env: Annotated[str, arg(metavar="VARIABLE")] = "OPENAI_API_KEY"
    """The environment variable with the server's key, where it wants one. The key itself is never written anywhere."""

    stand_in: bool = False
    """No model: a designer that edits only what a reflection tells it. It shows that the search works, no more."""

    run: Annotated[str | None, arg(metavar="FOLDER")] = None
    """The folder of the search. One that was begun already is gone on with, if the settings are the same."""

    samples: int = 16
    """Programs a round (eureka)."""

    rounds: int = 5
    """How many rounds."""

    steps: Steps = 200_000
    """Environment steps of each training."""

    num_envs: int = 32
    """How many environments each agent is trained on."""

    recorded: int = 256
    """Episodes of random play that candidates are screened on before any training."""

    gate: float = 0.75
    """Share of pairs of a better and a worse recorded episode that a candidate must order rightly; 0: all pass."""

    with_task: bool = True
    """Pay the task's own reward too; --with-task False trains on the program alone."""

    start: Annotated[Path | None, arg(metavar="FILE")] = None
    """A reward program of yours to start from (eureka)."""

    ask_me: bool = False
    """Ask at the terminal what you think of the best agent after each round (eureka, text2reward)."""

    curriculum: Annotated[tuple[str, ...], arg(metavar="ID ...")] = ()
    """Easier environments with the same spaces, on which each agent is trained first, in this order."""

    seeds: int = 1
    """Agents trained on each candidate, with seeds of their own; its score is their mean. More than one keeps a search
    from taking a lucky training for a good reward, and costs as many times the training."""

    final_seeds: int = 0
    """Train so many agents anew on the best reward, with other seeds."""

    episodes: int = 100
    """Fresh levels at the end of each training, from which the score comes."""

    seed: int = 0
    """Seeds the recorded episodes and the trainings."""

    require_kernel: bool = False
    """Refuse to run programs where the kernel gives no Landlock or seccomp."""

    agent_args: Options = field(default_factory=dict)
    """Settings of PPO: --agent-args learning_rate=1e-3 n_steps=64."""

    env_args: Options = field(default_factory=dict)
    """Settings of the environment, given to gym.make_vec; facts=doors adds facts of the grid."""


def check_design(config: DesignConfig) -> None:
    """Refuse what cannot be run, before anything is built, asked or written.

    Raises:
        ConfigError: With the way out.
    """
    check(train_config(config, config.env))
    for name in config.curriculum:
        check_env_id(name)
    least_of = {"samples": 1, "rounds": 1, "recorded": 2, "episodes": 1, "seeds": 1, "final_seeds": 0}
    for field_, least in least_of.items():
        if getattr(config, field_) < least:
            raise ConfigError(f"{field_} is {getattr(config, field_)}; it must be at least {least}")
    if not 0 <= config.gate <= 1:
        raise ConfigError(f"gate is {config.gate}; it is a share of pairs, between 0 and 1")
    if not config.task.strip():
        raise ConfigError("say in a sentence what the agent shall do: --task '...'")
    if config.stand_in == (config.server is not None):
        raise ConfigError("who writes the rewards? Give --server URL and --model NAME, or --stand-in, and not both")
    if config.server is not None and not config.model:
        raise ConfigError("--server needs --model, the name that the server has for it")
    if config.start is not None and config.search != "eureka":
        raise ConfigError("--start belongs to --search eureka")
    if config.start is not None and not config.start.is_file():
        raise ConfigError(f"there is no file {config.start} to start from")


def train_config(config: DesignConfig, env: str) -> TrainConfig:
    """The part that makes a batch of environments."""
    return TrainConfig(
        env=env, steps=config.steps, num_envs=config.num_envs, seed=config.seed, env_args=config.env_args,
        agent_args=config.agent_args,
    )  # fmt: skip
