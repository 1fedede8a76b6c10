"""Evaluation: policies with their own parameters, each run for one episode on a batch of environments."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..envs.batch import BatchEnv, lane_seed
from .policies import Policy


@dataclass
class Ledger:
    """What has been spent, whoever spent it."""

    evaluations: int = 0
    """Policies evaluated, the invalid ones too."""
    steps: int = 0
    """Environment steps of their episodes; what a lane does after its policy's episode is not counted."""
    batches: int = 0
    """Batches of episodes; the number of the next one seeds it."""
    invalid_genomes: int = 0
    """Genomes with a number that is not finite; they are not run."""
    invalid_objectives: int = 0
    """Returns that were not finite."""
    invalid_measures: int = 0
    """Descriptors that were not finite."""

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)


@dataclass
class Trajectories:
    """P episodes, time first; ``valid`` bool ``[T, P]`` says which steps belong to them, and the rest is unspecified.

    ``obs`` ``[T + 1, P, ...]`` has the true last observation of episode i at ``length[i]``; later rows repeat it.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    valid: Tensor
    length: Tensor
    facts: dict[str, Tensor] = field(default_factory=dict)
    """The facts of the last states, ``[P, ...]`` each."""


@dataclass
class Transitions:
    """The K steps of P episodes, one episode after the other."""

    obs: Tensor
    """``[K, ...]``."""
    action: Tensor
    """As executed, ``[K, ...]``."""
    reward: Tensor
    """float32 ``[K]``."""
    next_obs: Tensor
    """The true ones, ``[K, ...]``."""
    terminated: Tensor
    """bool ``[K]``; steps at which an episode was cut are not."""
    row: Tensor
    """Whose step it is, int64 ``[K]``."""

    def __len__(self) -> int:
        return len(self.row)

    def rows(self, which: Tensor) -> "Transitions":
        """The steps of the policies ``which``, different numbers, which are counted anew in that order."""
        place = torch.full((int(self.row.max()) + 1 if len(self) else 0,), -1, device=self.row.device)
        there = which < len(place)
        place[which[there]] = torch.arange(len(which), device=place.device)[there]
        now = place[self.row]
        order = now.argsort(stable=True)
        order = order[now[order] >= 0]
        return Transitions(**{name: v[order] for name, v in {**vars(self), "row": now}.items()})

    def cpu(self) -> "Transitions":
        """The same on the CPU."""
        return Transitions(**{name: v.cpu() for name, v in vars(self).items()})


@dataclass
class Evaluated:
    """What P evaluations gave, row i of each being policy i's."""

    genomes: Tensor
    """float32 ``[P, D]``."""
    objective: Tensor
    """Undiscounted return, float32 ``[P]``."""
    measures: Tensor
    """Descriptors, float32 ``[P, M]``."""
    area: Tensor
    """The number of the reward area reached, int64 ``[P]``; -1 for none."""
    length: Tensor
    """Steps, int64 ``[P]``."""
    valid: Tensor
    """bool ``[P]``: genome, return and descriptor are finite. The rest of an invalid row is not to be used."""
    frames: Tensor | None = None
    """The last picture, uint8 ``[P, H, W, 3]``, where asked for."""
    transitions: Transitions | None = None
    """All steps, where asked for."""

    def __len__(self) -> int:
        return len(self.genomes)

    def rows(self, which: Tensor | slice) -> "Evaluated":
        """Some of the rows, by mask, number or slice."""
        columns = {name: v for name, v in vars(self).items() if isinstance(v, Tensor)}
        parts = {name: v[which] for name, v in columns.items()}
        steps = self.transitions
        if steps is not None:
            steps = steps.rows(torch.arange(len(self), device=steps.row.device)[which])
        return Evaluated(**parts, transitions=steps)

    def usable(self) -> "Evaluated":
        """The valid rows."""
        return self.rows(self.valid)


def joined(parts: Sequence[Evaluated]) -> Evaluated:
    """Evaluations one after the other; pictures and steps are there where all parts have them."""
    columns = {name: [getattr(p, name) for p in parts] for name in vars(parts[0])}
    steps = columns.pop("transitions")
    whole = {name: None if any(v is None for v in c) else torch.cat(c) for name, c in columns.items()}
    if any(s is None for s in steps):
        return Evaluated(**whole)  # type: ignore[arg-type]
    names, at, rows = list(vars(steps[0])), 0, []
    for part in parts:
        rows.append(part.transitions.row + at)  # type: ignore[union-attr]
        at += len(part)
    cats = {name: torch.cat(rows if name == "row" else [getattr(s, name) for s in steps]) for name in names}
    return Evaluated(**whole, transitions=Transitions(**cats))  # type: ignore[arg-type]


class Evaluator:
    """Runs policies to the end of one episode each.

    Policies go through the lanes in groups; group b of an evaluator begins with ``env.reset(seed=lane_seed(seed, b))``,
    so results do not depend on what ran before, and a resumed search needs no state of the environment. The return of
    an episode ends with it: what its lane does while others still run (the batch has begun its next episode) is neither
    added nor counted.

    Args:
        env: The batch; its number of lanes is the size of a group. Or a function from a number of lanes to a batch:
            then small groups run on small batches, of 16 lanes or twice as many and so on.
        policy: How genomes act.
        seed: Of the episodes.
        measures: A function of ``Trajectories`` to ``[P, M]``; None takes ``final_facts["descriptor"]``.
        cap: Steps after which an episode is cut, for environments that have no cap of their own.
        frames: Keep each episode's last picture (``env`` needs ``render_mode="rgb_array"``).
        lanes: The largest group, where ``env`` is a function.
        transitions: Keep every step of every episode, for searches that learn from them.
        compiled: Run whole episodes in compiled code where there is some: networks on a CPU in the redundant arm, the
            hard maze and curling, where no measures or transitions are asked for: the same rules, other roundings.

    Raises:
        ValueError: The environment has no cap and none is given.
    """

    def __init__(
        self,
        env: BatchEnv | Callable[[int], BatchEnv],
        policy: Policy,
        *,
        seed: int = 0,
        measures: Callable[[Trajectories], Tensor] | None = None,
        cap: int | None = None,
        frames: bool = False,
        lanes: int = 2048,
        transitions: bool = False,
        compiled: bool = True,
    ) -> None:
        if lanes < 1:
            raise ValueError(f"lanes={lanes}: a group has at least one")
        self._make = None if isinstance(env, BatchEnv) else env
        self._envs: dict[int, BatchEnv] = {}
        self.lanes = env.num_envs if isinstance(env, BatchEnv) else lanes
        self.env = env if isinstance(env, BatchEnv) else env(min(16, lanes))
        self._envs[self.env.num_envs] = self.env
        env = self.env
        if cap is None and env.max_steps is None:
            raise ValueError(f"{env!r} has no limit on its episodes: say after how many steps to cut them with cap=")
        self.policy, self.seed = policy, seed
        self.cap = min(c for c in (cap, env.max_steps) if c is not None)
        self.measures, self.frames, self.transitions = measures, frames, transitions
        self.ledger = Ledger()
        self._episodes: Any = None
        if compiled and measures is None and not transitions and self.cap == env.max_steps:
            from .compiled import episodes

            self._episodes = episodes(env, policy)

    def _batch(self, count: int) -> BatchEnv:
        """The batch for so many policies."""
        lanes = self.env.num_envs
        while lanes < min(count, self.lanes):
            lanes *= 2
        lanes = min(lanes, self.lanes)
        if lanes not in self._envs:
            assert self._make is not None
            self._envs[lanes] = self._make(lanes)
        if self.frames:
            self._envs[lanes].frame_every = self.cap + 1  # only the last ones are needed
        return self._envs[lanes]

    def __call__(self, genomes: Tensor) -> Evaluated:
        """Evaluate genomes ``[P, D]``.

        Raises:
            ValueError: They do not have ``policy.size`` columns, or the environment tells no descriptor.
        """
        if genomes.ndim != 2 or genomes.shape[1] != self.policy.size or not len(genomes):
            raise ValueError(
                f"genomes of shape {tuple(genomes.shape)}: this policy needs rows of {self.policy.size} numbers, at "
                "least one row"
            )
        genomes = genomes.to(self.env.device, torch.float32)
        parts = self._groups([genomes[at : at + self.lanes] for at in range(0, len(genomes), self.lanes)])
        out = joined(parts)
        good = torch.isfinite(genomes).all(-1)
        paid, placed = torch.isfinite(out.objective), torch.isfinite(out.measures).all(-1)
        self.ledger.evaluations += len(genomes)
        self.ledger.batches += len(parts)
        self.ledger.steps += int(out.length.sum())
        self.ledger.invalid_genomes += int((~good).sum())
        self.ledger.invalid_objectives += int((good & ~paid).sum())
        self.ledger.invalid_measures += int((good & paid & ~placed).sum())
        out.genomes, out.valid = genomes, good & paid & placed
        return out

    def _groups(self, groups: list[Tensor]) -> list[Evaluated]:
        """Evaluate groups of at most ``lanes`` genomes, those that come next."""
        return [self.group(genomes, number) for number, genomes in enumerate(groups, self.ledger.batches)]

    def close(self) -> None:
        """End what was started; here there is nothing."""

    @torch.no_grad()
    def group(self, genomes: Tensor, number: int) -> Evaluated:
        """Evaluate group ``number``, at most ``lanes`` genomes: its number seeds it, and the ledger knows nothing."""
        if self._episodes is not None:
            return self._whole(genomes)
        env, count = self._batch(len(genomes)), len(genomes)
        lanes = env.num_envs
        # Idle lanes and broken genomes act by zeros, and are left out of the books.
        padded = torch.zeros(lanes, genomes.shape[1], device=env.device)
        padded[:count] = torch.where(torch.isfinite(genomes).all(-1, keepdim=True), genomes, 0.0)
        layers = self.policy.unpack(padded)
        obs, info = env.reset(seed=lane_seed(self.seed, number))

        alive = torch.arange(lanes, device=env.device) < count
        if count < lanes:
            env.unwrapped.rest(~alive)
        total = torch.zeros(lanes, dtype=torch.float64, device=env.device)
        length = torch.zeros(lanes, dtype=torch.int64, device=env.device)
        last = {name: value.clone() for name, value in info.get("facts", {}).items()}
        pictures: Tensor | None = None
        tape: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        seen = [obs.clone()] if self.measures is not None else []
        lived: list[tuple[Tensor, ...]] = []
        while True:
            actions = self.policy.act(layers, obs)
            before = obs.clone() if self.transitions else obs
            obs, reward, terminated, _, info = env.step(actions)
            ended = info["_final_obs"]
            live = alive & info["valid"] if "valid" in info else alive
            total += torch.where(live, reward, 0.0)
            length += live
            cut = live & ~ended & (length >= self.cap)
            if self.transitions:
                truth = torch.where(_like(ended, obs), info["final_obs"], obs)
                whose = live.nonzero()[:, 0]
                lived.append(tuple(v[whose] for v in (before, actions, reward, truth, terminated)) + (whose,))
            if self.measures is not None:
                truth = torch.where(_like(ended, obs), info["final_obs"], obs)
                seen.append(torch.where(_like(live, truth), truth, seen[-1]))
                tape.append((actions.clone(), reward.clone(), live, alive))
            done = alive & (ended | cut)
            if bool(done.any()):
                for name, value in info.get("final_facts", {}).items():
                    now = torch.where(_like(ended, value), value, info["facts"][name])
                    last[name] = torch.where(_like(done, value), now, last.get(name, torch.zeros_like(value)))
                if self.frames:
                    shot = info["final_frame"]
                    pictures = torch.where(
                        _like(done, shot), shot, torch.zeros_like(shot) if pictures is None else pictures
                    )
                alive = alive & ~done
                if not bool(alive.any()):
                    break
                env.unwrapped.rest(~alive)
        keep = slice(0, count)
        facts = {name: value[keep] for name, value in last.items()}
        measures = self._measures(seen, tape, length, facts, keep)
        none = torch.full((count,), -1, dtype=torch.int64, device=env.device)
        objective = total[keep].to(torch.float32)
        return Evaluated(
            genomes, objective, measures, facts.get("area", none), length[keep], none >= 0,
            None if pictures is None else pictures[keep], _steps(lived) if self.transitions else None,
        )  # fmt: skip

    def _whole(self, genomes: Tensor) -> Evaluated:
        """Evaluate a group in compiled code; its worlds have no chance in them, and the outcome tells the return."""
        world: Any = self.env
        usable = torch.where(torch.isfinite(genomes).all(-1, keepdim=True), genomes, 0.0)
        outcome, length, state = self._episodes(usable)
        area = world.pay(outcome)[1]
        frames = world.pictures(state) if self.frames else None
        return Evaluated(genomes, world.returns(outcome), outcome, area, length, area >= 0, frames)

    def _measures(
        self, seen: list[Tensor], tape: list[Any], length: Tensor, facts: dict[str, Tensor], keep: slice
    ) -> Tensor:
        if self.measures is None:
            if "descriptor" not in facts:
                raise ValueError(
                    f"{self.env!r} tells no facts['descriptor']: give measures=, a function of trajectories (see "
                    "cairn.qd.descriptors)"
                )
            return facts["descriptor"].to(torch.float32)
        action, reward, live, _ = (torch.stack(column)[:, keep] for column in zip(*tape))
        made = self.measures(Trajectories(torch.stack(seen)[:, keep], action, reward, live, length[keep], facts))
        if made.ndim != 2 or len(made) != keep.stop:
            raise ValueError(f"measures gave {tuple(made.shape)} for {keep.stop} episodes: it gives one row for each")
        return made.to(torch.float32)


def _steps(lived: list[tuple[Tensor, ...]]) -> Transitions:
    columns = [torch.cat(column) for column in zip(*lived)]
    order = columns[-1].argsort(stable=True)
    return Transitions(*(column[order] for column in columns))


def _like(rows: Tensor, value: Tensor) -> Tensor:
    """``rows [N]`` with as many axes as ``value [N, ...]``."""
    return rows.reshape(-1, *[1] * (value.ndim - 1))
