"""Evaluation spread over worker processes by Ray: the numbers of one process, and no evaluation lost or done twice."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..envs.bridges import make_batch
from ..envs.physics.ids import PHYSICS_IDS
from .policies import CNN, MLP, Constant, Policy
from .rollout import Evaluated, Evaluator, Transitions

TRIES = 3  # deaths of workers over one group of genomes, before it is thought to be the genomes' doing
_STEPS = "transitions/"
_COLUMNS = ("objective", "measures", "area", "length", "frames")
Arrays = dict[str, NDArray[Any]]


class DistributedEvaluator(Evaluator):
    """An ``Evaluator`` whose groups of ``lanes`` policies are run by worker processes.

    Group b is seeded by (seed, b) and runs on a batch of the same size wherever it runs, so the results are those of
    ``Evaluator`` with the same ``lanes``, bit for bit, whatever the number of workers. A worker that dies is replaced
    and its group is run again; a group counts in the ledger once all of a call's groups are there. What is not split
    into groups is not spread: for 200 policies and four workers, ``lanes=50``.

    Ray is started on 127.0.0.1, without its dashboard, unless the program has started it already (a cluster's nodes
    need the same version of Cairn). Workers are told what to do in JSON, and take and give arrays.

    Args:
        env: The environment's id.
        policy: How genomes act.
        workers: How many processes; each uses one thread.
        env_args: Arguments of the environment: plain values.
        seed: Of the episodes.
        cap: Steps after which an episode is cut, for environments that have no cap of their own.
        frames: Keep each episode's last picture.
        lanes: The size of a group.
        transitions: Keep every step of every episode.

    Raises:
        ImportError: Ray is not installed.
        ValueError: A number makes no sense, or the environment has no cap and none is given.
        TypeError: The environment is no id, or its arguments are no plain values.
    """

    def __init__(
        self,
        env: str,
        policy: Policy,
        *,
        workers: int,
        env_args: Mapping[str, Any] | None = None,
        seed: int = 0,
        cap: int | None = None,
        frames: bool = False,
        lanes: int = 64,
        transitions: bool = False,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers={workers!r}: it is the number of processes, at least 1")
        if not isinstance(env, str):
            raise TypeError(f"workers make their own environments by an id, and {env!r} is none")
        args = dict(env_args or {})
        if env in {name for name, *_ in PHYSICS_IDS} and args.get("engine") != "warp":
            args.setdefault("threads", 1)
        about = {"env": env, "env_args": args, "policy": _described(policy), "seed": seed, "cap": cap}
        kept: dict[str, Any] = {"frames": frames, "transitions": transitions}
        try:
            self._about = json.dumps({**about, **kept, "lanes": lanes}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"workers are told env_args as JSON, and these are no plain values: {error}") from error
        super().__init__(lambda n: make_batch(env, n, **args), policy, seed=seed, cap=cap, lanes=lanes, **kept)
        self._ray = _load_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            _start(self._ray, workers)
        self.workers = [self._hire() for _ in range(workers)]
        self.deaths = 0
        """Workers that died and were replaced."""

    def _hire(self) -> Any:
        return self._ray.remote(Host).options(num_cpus=1, max_restarts=0).remote(self._about)

    def _groups(self, groups: list[Tensor]) -> list[Evaluated]:
        """Every group to the next worker that is free; a group whose worker died goes to the head of the queue."""
        ray, first = self._ray, self.ledger.batches
        waiting, tries = list(range(len(groups)))[::-1], [0] * len(groups)
        idle, found = list(range(len(self.workers))), {}
        running: dict[Any, tuple[int, int]] = {}
        while waiting or running:
            while waiting and idle:
                group, worker = waiting.pop(), idle.pop()
                task = self.workers[worker].run.remote(groups[group].cpu().numpy(), first + group)
                running[task] = (group, worker)
            task = ray.wait(list(running), num_returns=1)[0][0]
            group, worker = running.pop(task)
            try:
                found[group] = _evaluated(groups[group], ray.get(task))
            except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as error:
                self.deaths += 1
                tries[group] += 1
                if tries[group] == TRIES:
                    raise RuntimeError(
                        f"{TRIES} workers died one after the other over the same {len(groups[group])} policies. Short "
                        f"of memory, take fewer workers or lanes; Ray says: {error}"
                    ) from error
                self.workers[worker] = self._hire()
                waiting.append(group)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause or error) from None
            idle.append(worker)
        return [found[group] for group in range(len(groups))]

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        for worker in self.workers:
            self._ray.kill(worker)
        self.workers = []
        if self._started and self._ray.is_initialized():
            self._ray.shutdown()


class Host:
    """What a worker process has: an evaluator of its own.

    Args:
        about: What to make, in JSON.
    """

    def __init__(self, about: str) -> None:
        torch.set_num_threads(1)
        said = json.loads(about)
        kind = said["policy"].pop("kind")
        one = make_batch(said["env"], 1, **said["env_args"])
        spaces = (one.single_observation_space, one.single_action_space)
        policy: Policy = {"constant": Constant, "mlp": MLP, "cnn": CNN}[kind](*spaces, **said["policy"])
        self.evaluator = Evaluator(
            lambda lanes: make_batch(said["env"], lanes, **said["env_args"]),
            policy,
            **{name: said[name] for name in ("seed", "cap", "frames", "lanes", "transitions")},
        )

    def process(self) -> int:
        """The number of this process."""
        return os.getpid()

    def run(self, genomes: NDArray[np.float32], number: int) -> Arrays:
        """Group ``number``: genomes ``[P, D]`` to the columns of ``Evaluated``."""
        found = self.evaluator.group(torch.tensor(genomes), number)
        columns = {name: getattr(found, name) for name in _COLUMNS}
        if found.transitions is not None:
            columns |= {_STEPS + name: value for name, value in vars(found.transitions).items()}
        return {name: value.numpy() for name, value in columns.items() if value is not None}


def _described(policy: Policy) -> dict[str, Any]:
    """A policy as plain values.

    Raises:
        TypeError: It is of another kind.
    """
    if type(policy) is Constant:
        return {"kind": "constant"}
    if type(policy) is CNN:
        return {"kind": "cnn", "layers": [list(layer) for layer in policy.layers], "hidden": list(policy.hidden)}
    if type(policy) is not MLP:
        raise TypeError(f"workers know the policies MLP, CNN and Constant, not {type(policy).__name__}")
    return {"kind": "mlp", "hidden": list(policy.sizes[1:-1]), "bias": policy.bias, "activation": policy.activation}


def _evaluated(genomes: Tensor, columns: Arrays) -> Evaluated:
    made = {name: torch.tensor(value) for name, value in columns.items()}
    steps = {name.removeprefix(_STEPS): made.pop(name) for name in list(made) if name.startswith(_STEPS)}
    valid = torch.ones(len(genomes), dtype=torch.bool)
    return Evaluated(genomes, valid=valid, transitions=Transitions(**steps) if steps else None, **made)


def _load_ray() -> Any:
    """Import Ray, set to stay on this machine where it is started here.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else Ray listens on all of the machine's addresses. (On Windows and macOS it never does, hence the name.)
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"workers need Ray: pip install 'cairn-rl[distributed]' ({error})") from error
    return ray


def _start(ray: Any, workers: int) -> None:
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=256 << 20,
        configure_logging=False,
        log_to_driver=False,
    )
