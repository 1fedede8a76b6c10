"""A search as a run: a folder, a progress bar, checkpoints, going on after a kill, pictures, one elite on film."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ..agents.config import ConfigError, run_folder
from ..agents.pictures import Caption, Frame, captioned, write_video
from ..agents.progress import Reporter, Silent
from ..agents.stopping import signals
from ..envs.areas.ids import AREA_IDS
from ..envs.batch import BatchEnv, lane_seed
from ..envs.bridges import make_batch
from ..envs.kinds import Pixels
from ..envs.physics.ids import PHYSICS_IDS
from ..runs import CheckpointError, Run, read_checkpoint, write_checkpoint
from .config import SearchConfig, check, from_json, to_json
from .grid import Grid
from .pictures import heat_map, progress_curve
from .policies import CNN, MLP, Constant, Policy
from .problem import Problem
from .rollout import Evaluator, Ledger
from .search import Search
from .table import ALGORITHMS

ARCHIVE = "archive"
SIDE = 64  # pixels of a picture that an autoencoder describes


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    run: Path
    evaluations: int
    seconds: float
    why: str
    """``evaluations`` (all done), ``time`` or ``signal`` (saved, may go on)."""
    scores: dict[str, float]
    signum: int | None = None


class Parts:
    """What a config is built into: environments, policy, evaluator, search.

    Raises:
        ConfigError: The environment tells no descriptor, or something cannot be made.
    """

    def __init__(self, config: SearchConfig) -> None:
        frames, gradients = ALGORITHMS[config.algorithm].frames, ALGORITHMS[config.algorithm].gradients
        kwargs: dict[str, Any] = {"render_mode": "rgb_array"} if frames else {}
        if frames:
            kwargs |= picture_size(config.env, SIDE)

        def make(lanes: int) -> BatchEnv:
            return make_batch(config.env, lanes, device=config.device, **{**kwargs, **config.env_args})

        try:
            first = make(1)
            bounds = getattr(first.unwrapped, "descriptor_bounds", None)
            if bounds is None:
                raise ConfigError(
                    f"{config.env} tells no descriptor; try cairn/RedundantArm-v0, cairn/HardMaze-v0 or "
                    "cairn/AntOmni-v0, or give cairn.qd.Evaluator a function of trajectories"
                )
            areas = getattr(first.unwrapped, "areas", ())
            self.policy = _policy(config, first)
            common: dict[str, Any] = {"seed": config.seed, "frames": frames, "lanes": config.lanes}
            common["transitions"] = gradients
            if config.workers is None:
                self.evaluator = Evaluator(make, self.policy, **common)
            else:
                from .distributed import DistributedEvaluator

                common |= {"workers": config.workers, "env_args": {**kwargs, **config.env_args}}
                self.evaluator = DistributedEvaluator(config.env, self.policy, **common)
            low, high = (row.cpu() for row in bounds)
            problem = Problem(self.policy.size, low, high, seed=config.seed, policy=self.policy)
            self.search = Search(config.algorithm, problem, config.algorithm_args, bins=config.bins, areas=len(areas))
        except (TypeError, ValueError, ImportError, gym.error.Error) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(str(error)) from error


def picture_size(env: str, pixels: int) -> dict[str, Any]:
    """The arguments by which an environment draws square pictures of so many pixels, where it has such."""
    if env in {name for name, *_ in AREA_IDS}:
        return {"pixels": pixels}
    if env in {name for name, *_ in PHYSICS_IDS}:
        return {"width": pixels, "height": pixels}
    return {}


def _policy(config: SearchConfig, env: BatchEnv) -> Policy:
    observation, action = env.single_observation_space, env.single_action_space
    kind, gradients = config.policy, ALGORITHMS[config.algorithm].gradients
    if kind == "constant" or (kind == "auto" and env.max_steps == 1 and not gradients):
        return Constant(observation, action)
    if kind == "relu" or (kind == "auto" and gradients):
        return MLP(
            observation, action, (128, 128) if config.hidden is None else config.hidden, bias="unit", activation="relu"
        )
    if kind == "conv" or (kind == "auto" and isinstance(observation, Pixels)):
        return CNN(observation, action, hidden=config.hidden or ())
    return MLP(observation, action, (5, 5) if config.hidden is None else config.hidden)


def search(config: SearchConfig, *, report: Reporter | None = None, max_seconds: float | None = None) -> Outcome:
    """Run a search from its beginning and leave a run folder.

    Args:
        config: What to do.
        report: Where progress is told.
        max_seconds: Save and stop after so long.

    Raises:
        ConfigError: It cannot be done; nothing has been written.
        FileExistsError: The folder is taken.
    """
    check(config)
    path = run_folder(config.run, config.env, config.algorithm)
    _threads(config)
    parts = Parts(config)
    with Run.create(path, to_json(replace(config, run=str(path)))) as run:
        return _Session(run, config, parts, report or Silent(), max_seconds).go()


def resume(
    path: str | Path,
    *,
    evaluations: int | None = None,
    report: Reporter | None = None,
    max_seconds: float | None = None,
) -> Outcome:
    """Go on with a search that was stopped or killed, to the same bits as if it had not been.

    The results so far are gone through again without evaluating anything: the algorithm needs its own time once more.
    Searches that look at pictures (taxons, stax) run every policy once more, for the pictures are not saved; those that
    learn from every step (pga-me and its relatives) have their whole state in the checkpoint, replay buffer included.

    Args:
        path: The run folder.
        evaluations: Up to how many in all, instead of the number that the run began with.
        report: Where progress is told.
        max_seconds: Save and stop after so long.

    Raises:
        ConfigError: The folder's config cannot be run.
        CheckpointError: There is no good checkpoint, or it is another search's.
    """
    with Run.open(path) as run:
        config = from_json(run.config)
        if evaluations is not None:
            config = replace(config, evaluations=evaluations)
            check(config)
        _threads(config)
        run.claim()
        parts, saved = Parts(config), run.latest()
        run.resume_metrics(saved[1] if saved else None)
        if saved is not None:
            _load(run, parts, saved[2])
        return _Session(run, config, parts, report or Silent(), max_seconds).go()


def _threads(config: SearchConfig) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)


def _load(run: Run, parts: Parts, state: Any) -> None:
    names = set(Ledger().as_dict())
    ledger = state.get("ledger") if isinstance(state, dict) else None
    if not isinstance(ledger, dict) or set(ledger) != names or any(type(v) is not int for v in ledger.values()):
        raise CheckpointError(f"{run.root}: the checkpoint's ledger is damaged; restore an older one")
    try:
        parts.search.load_state_dict(state.get("search"), parts.evaluator)
    except ValueError as error:
        raise CheckpointError(f"{run.root}: {error}") from error
    parts.evaluator.ledger = Ledger(**ledger)


class _Session:
    """The loop between ask and tell, with its metrics and checkpoints."""

    def __init__(
        self, run: Run, config: SearchConfig, parts: Parts, report: Reporter, max_seconds: float | None
    ) -> None:
        self.run, self.config, self.report, self.max_seconds = run, config, report, max_seconds
        self.search, self.evaluator = parts.search, parts.evaluator
        self.signum: int | None = None

    def go(self) -> Outcome:
        """Search until the evaluations, the time or the user's patience are spent; save; draw."""
        try:
            return self._go()
        finally:
            self.evaluator.close()

    def _go(self) -> Outcome:
        began = saved = time.monotonic()
        every = max(1, self.config.evaluations // 1000)  # a row of metrics for so many evaluations
        last, stored = -1, -1
        with self.report, signals(self):
            while (why := self._over(began)) is None:
                search = self.search
                search.tell(self.evaluator(search.ask()))
                if search.evaluations // every != last:
                    last = search.evaluations // every
                    self.run.log(search.evaluations, self.row())
                self.report.at(search.evaluations, self.config.evaluations, search.grid.scores())
                if time.monotonic() - saved >= self.config.checkpoint_seconds:
                    self.save()
                    saved, stored = time.monotonic(), search.evaluations
            if stored != self.search.evaluations:
                self.save()
            self.draw()
        seconds = time.monotonic() - began
        scores = self.search.grid.scores()
        return Outcome(self.run.root, self.search.evaluations, seconds, why, scores, self.signum)

    def _over(self, began: float) -> str | None:
        if self.search.evaluations >= self.config.evaluations:
            return "evaluations"
        if self.signum is not None:
            return "signal"
        if self.max_seconds is not None and time.monotonic() - began >= self.max_seconds:
            return "time"
        return None

    def row(self) -> dict[str, float]:
        """One row of metrics."""
        ledger = self.evaluator.ledger.as_dict()
        ledger.pop("evaluations")
        return {**self.search.grid.scores(), "outside": self.search.grid.outside, **ledger}

    def save(self) -> None:
        """Write a checkpoint, and the archive beside it."""
        state = {"search": self.search.state_dict(), "ledger": self.evaluator.ledger.as_dict()}
        self.run.save(self.search.evaluations, {"algorithm": self.config.algorithm}, state)
        about = {"evaluations": self.search.evaluations}
        write_checkpoint(self.run.path(ARCHIVE), about, self.search.grid.state_dict(), replace=True)

    def draw(self) -> None:
        """The heat map of the archive (two measures only) and the scores over evaluations."""
        title = f"{self.config.env}, {self.config.algorithm}, {self.search.evaluations:,} evaluations"
        if len(self.search.grid.low) == 2:
            areas = getattr(self.evaluator.env.unwrapped, "areas", torch.zeros(0, 3))
            heat_map(self.search.grid, self.run.path("archive.png"), title, areas.cpu())
        progress_curve(self.run.metrics(), self.run.path("curve.png"), title)


def load_grid(run: str | Path) -> Grid:
    """The archive of a run, as it was at the last checkpoint; ``.to_pyribs()`` makes it pyribs'.

    Raises:
        ConfigError: The run is no search.
        CheckpointError: The archive is missing or damaged.
    """
    opened = Run.open(run)
    from_json(opened.config)
    state = read_checkpoint(opened.path(ARCHIVE))[1]
    try:
        return Grid.from_state(state)
    except ValueError as error:
        raise CheckpointError(f"{opened.path(ARCHIVE)}: {error}") from error


class ElitePolicy:
    """One elite with ``predict``, as Stable-Baselines3's policies have it.

    Args:
        policy: How genomes act.
        genome: ``[D]``.
    """

    def __init__(self, policy: Policy, genome: Tensor) -> None:
        if tuple(genome.shape) != (policy.size,):
            raise ValueError(f"this policy has {policy.size} numbers, and the genome {tuple(genome.shape)}")
        self.policy, self.genome = policy, genome.to(torch.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """The action for one observation, or actions for N; there is no chance in it.

        Args:
            observation: One, or a batch ``[N, ...]``, of one too, as array or tensor.
            state: Returned as it is.
            episode_start: Ignored.
            deterministic: Ignored.
        """
        obs = torch.as_tensor(np.asarray(observation)) if not isinstance(observation, Tensor) else observation
        single = obs.ndim == len(self.policy.shape)
        rows = obs[None] if single else obs
        layers = self.policy.unpack(self.genome.expand(len(rows), -1))
        actions = self.policy.act(layers, rows)
        actions = actions[0] if single else actions
        return (actions if isinstance(observation, Tensor) else actions.numpy()), state


def load_policies(run: str | Path) -> dict[tuple[int, ...], ElitePolicy]:
    """Every elite of a run's archive, by its cell.

    Raises:
        ConfigError: The run is no search, or its environment cannot be made.
        CheckpointError: The archive is missing or damaged.
    """
    grid, policy = load_grid(run), policy_of(run)
    rows = grid.elites()
    shape = (grid.bins,) * len(grid.low)
    places = [tuple(int(i) for i in np.unravel_index(c, shape)) for c in rows["cell"].tolist()]
    try:
        return {place: ElitePolicy(policy, genome) for place, genome in zip(places, rows["genomes"])}
    except ValueError as error:
        raise CheckpointError(f"{run}: {error}") from error


def policy_of(run: str | Path) -> Policy:
    """The form of a run's policies."""
    config = from_json(Run.open(run).config)
    return _policy(config, make_batch(config.env, 1, **config.env_args))


def film(run: str | Path, cell: tuple[int, ...] | None, video: str | Path | None = None, *, fps: int = 30) -> Path:
    """Film one elite.

    Args:
        run: The run folder.
        cell: Its place in the archive, a number for each descriptor; None for the one with the highest objective.
        video: The MP4 to write; ``play.mp4`` in the run folder if left out.
        fps: Steps a second.

    Raises:
        ConfigError: The cell is empty or there is none such, or the environment cannot be filmed.
        CheckpointError: The archive is missing or damaged.
    """
    opened = Run.open(run)
    config, grid = from_json(opened.config), load_grid(run)
    opened.path("play.mp4")  # refuses a link in the run folder
    path = Path(run) / "play.mp4" if video is None else Path(video)
    if fps < 1 or path.suffix != ".mp4" or not path.parent.is_dir():
        raise ConfigError(f"fps is at least 1, and {path} must end in .mp4 and lie in a folder that exists")
    number = _number(grid, cell)
    place = tuple(int(i) for i in np.unravel_index(number, (grid.bins,) * len(grid.low)))
    elite = ElitePolicy(policy_of(run), grid.genomes[number])
    try:
        # Not gym.make, which takes max_episode_steps for itself: then a world does not know when its episodes end.
        env = make_batch(config.env, 1, render_mode="rgb_array", **config.env_args)
        env.frame_every = 1
    except (TypeError, ValueError, gym.error.Error) as error:
        raise ConfigError(f"{config.env} cannot be filmed: {error}") from error
    head = f"cell {','.join(map(str, place))}   objective {float(grid.objective[number]):.3f}"
    write_video(_frames(env, elite, head, fps, config.seed), path, fps)
    env.close()
    return path


def _number(grid: Grid, cell: tuple[int, ...] | None) -> int:
    occupied = grid.occupied
    if not bool(occupied.any()):
        raise ConfigError("the archive is empty")
    if cell is None:
        return int(grid.objective.argmax())
    if len(cell) != len(grid.low) or any(not 0 <= i < grid.bins for i in cell):
        raise ConfigError(f"a cell is {len(grid.low)} numbers from 0 to {grid.bins - 1}, such as 25,25; got {cell}")
    number = int(np.ravel_multi_index(cell, (grid.bins,) * len(grid.low)))
    if not bool(occupied[number]):
        place = (torch.tensor(cell) + 0.5) / grid.bins * (grid.high - grid.low) + grid.low
        near = grid.elites()
        i = int((near["measures"] - place).norm(dim=-1).argmin())
        there = ",".join(str(int(j)) for j in np.unravel_index(int(near["cell"][i]), (grid.bins,) * len(grid.low)))
        raise ConfigError(f"cell {','.join(map(str, cell))} is empty; the nearest elite is in {there}")
    return number


def _frames(env: BatchEnv, elite: ElitePolicy, head: str, fps: int, seed: int) -> Iterator[Frame]:
    obs, info = env.reset(seed=lane_seed(seed, 0))
    layers = elite.policy.unpack(elite.genome[None])
    total, step, ended, picture = 0.0, 0, False, info["frame"]
    while True:
        frame = captioned(picture[0].cpu().numpy(), Caption(head, f"step {step}   return {total:.3f}", None))
        yield from [frame] * (fps if ended else 1)
        if ended:
            return
        obs, reward, _, _, info = env.step(elite.policy.act(layers, obs))
        total, step, ended = total + float(reward[0]), step + 1, bool(info["_final_obs"][0])
        picture = info["final_frame"] if ended else info["frame"]
