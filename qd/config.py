"""What a quality-diversity run is asked to do: ``SearchConfig`` and its checks. Nothing here imports torch."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ..agents.config import ConfigError, Options, Steps, check_env_args, check_env_id
from .table import ALGORITHMS

KIND = "qd"
POLICIES = ("auto", "mlp", "relu", "conv", "constant")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Everything that a search is made from; ``config.json`` in the run folder holds it."""

    env: Positional[Annotated[str, arg(metavar="ID")]]
    """The environment's id; it must tell descriptors: cairn/RedundantArm-v0, cairn/HardMaze-v0, cairn/AntOmni-v0."""

    algorithm: Annotated[str, arg(metavar="{" + ",".join(ALGORITHMS) + "}")] = "ns"
    """The search."""

    evaluations: Annotated[Steps, arg(metavar="N")] = 100_000
    """How many policies to evaluate, each for one episode; the last generation is completed."""

    seed: int = 0
    """Seeds the search and the episodes: the same seed gives the same run."""

    run: Annotated[str | None, arg(metavar="FOLDER")] = None
    """The folder to write; it must not exist yet. Left out: runs/<environment>-<algorithm>, numbered if taken."""

    policy: Annotated[str, arg(metavar="{" + ",".join(POLICIES) + "}")] = "auto"
    """mlp: small networks. relu: networks for gradients. conv: convolutions, for pictures. constant: the genome is the
    action. auto: relu for searches with gradients, constant where episodes have one step, conv for pictures, else
    mlp."""

    hidden: tuple[int, ...] | None = None
    """Units of the networks' hidden layers. Left out: 5 5, 128 128 for relu, and none for conv."""

    bins: int = 50
    """Cells of the archive along each descriptor."""

    lanes: int = 2048
    """The most episodes that run side by side."""

    algorithm_args: Options = field(default_factory=dict)
    """Settings of the search: --algorithm-args population=200 sigma=0.1."""

    env_args: Options = field(default_factory=dict)
    """Settings of the environment, given to gym.make_vec."""

    checkpoint_seconds: Annotated[float, arg(metavar="SECONDS")] = 60.0
    """Save a checkpoint when this many seconds have passed since the last one."""

    device: str = "cpu"
    """Where the episodes run: cpu, cuda or cuda:0."""

    threads: Annotated[int | None, arg(metavar="INT")] = None
    """How many CPU threads torch may use. Left out: torch's own choice."""

    workers: Annotated[int | None, arg(metavar="INT")] = None
    """Spread the episodes over so many processes by Ray, --lanes of them at a time: 4 workers, lanes=50 for generations
    of 200. The results are the same. Left out: this process runs them."""


def check(config: SearchConfig) -> None:
    """Refuse a config that cannot be run, before anything is built or written.

    Raises:
        ConfigError: A name is unknown or a number makes no sense.
    """
    check_env_id(config.env)
    if config.algorithm not in ALGORITHMS:
        from ..agents.table import nearest

        hint = nearest(config.algorithm, ALGORITHMS)
        raise ConfigError(f"no search is called {config.algorithm!r}{hint}; there are {', '.join(ALGORITHMS)}")
    if config.policy not in POLICIES:
        raise ConfigError(f"policy is {config.policy!r}; it is one of {', '.join(POLICIES)}")
    for name in ("evaluations", "bins", "lanes", "threads", "workers"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    if config.lanes > 1_000_000 or config.bins > 10_000:
        raise ConfigError("lanes can be at most 1,000,000, and bins 10,000")
    if not 0 <= config.seed < 1 << 62:
        raise ConfigError(f"seed is {config.seed}; it must not be negative, and below 2^62")
    if config.hidden is not None and (any(not 1 <= n <= 10_000 for n in config.hidden) or len(config.hidden) > 20):
        raise ConfigError(f"hidden is {config.hidden}; up to 20 layers of 1 to 10,000 units")
    if not config.checkpoint_seconds >= 0:
        raise ConfigError(f"checkpoint_seconds is {config.checkpoint_seconds}; it must not be negative")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
        raise ConfigError(f"device is {config.device!r}; it must be cpu, cuda or cuda:0")
    if config.workers is not None and (config.device != "cpu" or config.workers > 1024):
        raise ConfigError("workers are at most 1024 processes on CPUs; on a GPU leave workers out")
    check_env_args(config.env, config.env_args)


def to_json(config: SearchConfig) -> dict[str, Any]:
    """The config as plain JSON values; ``from_json`` is its inverse."""
    return {
        "kind": KIND,
        **dataclasses.asdict(config),
        "hidden": None if config.hidden is None else list(config.hidden),
    }


_TYPES: dict[str, tuple[type, ...]] = {
    "env": (str,), "algorithm": (str,), "evaluations": (int,), "seed": (int,), "run": (str, type(None)),
    "policy": (str,), "hidden": (list, type(None)), "bins": (int,), "lanes": (int,), "algorithm_args": (dict,),
    "env_args": (dict,), "checkpoint_seconds": (float, int), "device": (str,), "threads": (int, type(None)),
    "workers": (int, type(None)),
}  # fmt: skip


def is_search(values: Any) -> bool:
    """Whether a run folder's config is a search's."""
    return isinstance(values, dict) and values.get("kind") == KIND


def from_json(values: Any) -> SearchConfig:
    """Read a config back from a run folder, trusting nothing in it.

    Raises:
        ConfigError: A field is missing, unknown or of the wrong type, or ``check`` refuses its value.
    """
    if not is_search(values) or set(values) != {"kind", *_TYPES}:
        raise ConfigError("this run is no quality-diversity search (cairn qd), or another version made it")
    for name, kinds in _TYPES.items():
        if not isinstance(values[name], kinds) or isinstance(values[name], bool):
            raise ConfigError(f"the run's config has {name}={values[name]!r}, which is not {kinds[0].__name__}")
    hidden = values["hidden"]
    if hidden is not None and any(type(n) is not int for n in hidden):
        raise ConfigError(f"the run's config has hidden={hidden!r}, which is not a list of whole numbers")
    config = SearchConfig(
        **{**{k: v for k, v in values.items() if k != "kind"}, "hidden": None if hidden is None else tuple(hidden)}
    )
    check(config)
    return config
