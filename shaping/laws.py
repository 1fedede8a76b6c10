"""The laws of terms, as a test that anyone can run on a term of theirs: ``check_term(lambda: MyTerm())``.

Seats cut experience into rollouts, shuffle it, score it again, pad it and go on from checkpoints. A term that obeys
these laws gives the same rewards in all of them (parameters frozen):

* pure: evaluating changes nothing that ``update`` owns, and a pure term nothing at all; the same rows get the same
  values again;
* subset: scoring a part of the rows gives that part of the scores (pure terms);
* chunk: scanning in two pieces gives the two pieces of the scan (streams, and all that is known at once);
* lanes: lanes do not see each other, and their number does not matter (streams);
* cut: the undiscounted sum over an episode does not depend on where rollouts were cut, every single step included;
* invalid: rows that are not valid change nothing, whatever is in them;
* state: a term that goes on from a saved state, in mid-episode, gives what it would have given.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ..envs.kinds import Symbols
from .potential import Telescopes
from .reward import Reward, as_reward
from .seats import RolloutSeat
from .state import pack
from .stretch import Stretch
from .term import World

SIDE = 4  # of the little grid that is walked at random
STEPS, LANES = 24, 5


class LawBroken(AssertionError):
    """A term breaks a law; the message says which, and what follows."""


def check_term(
    make: Callable[[], Any],
    *,
    seed: int = 0,
    dict_obs: bool = True,
    gamma: float = 0.9,
    tolerance: float = 1e-5,
    experience: tuple[World, Stretch] | None = None,
) -> None:
    """Test a term against the laws on random experience with ends, truncations and rows that are not valid.

    Args:
        make: Makes the term (or expression) anew, the same each time.
        seed: Of the experience.
        dict_obs: Observe a Dict of symbols and direction as MiniGrid does; otherwise a float vector.
        gamma: The agent's discount.
        tolerance: Largest difference that counts as none; networks round differently in batches of other sizes.
        experience: Walk through this instead: a world and a stretch ``[T, N]`` with ``start`` in its first row.

    Raises:
        LawBroken: The message names the law and what breaks when it is broken.
    """
    world, x = experience or walk(seed, dict_obs=dict_obs, gamma=gamma)
    laws = _Laws(make, world, x, tolerance)
    for law in ("pure", "subset", "chunk", "lanes", "cut", "invalid", "state"):
        getattr(laws, law)()


def check_potential(make: Callable[[], Telescopes], *, seed: int = 0, gamma: float = 0.9) -> None:
    """Test that a potential telescopes, which the laws above do not ask: on episodes of random experience.

    With phi_0 what an episode begins with and phi_n what its last step arrives with, the discounted sum is ``-phi_0``
    where the episode terminated, and ``gamma ** n * phi_n - phi_0`` where it was truncated after n steps (Ng et al.
    1999).

    Raises:
        LawBroken: It does not.
    """
    world, x = walk(seed, gamma=gamma)
    reward = as_reward(make())
    reward.bind(world)
    term = reward.summands[0].term
    assert isinstance(term, Telescopes)
    discount = term.gamma if term.gamma is not None else gamma
    with torch.no_grad():
        paid, before, after = reward.evaluate(x)[term], term.begin(x), term.arrive(x)
    for end, lane in x.done.nonzero().tolist():
        steps = int(x.t[end, lane]) + 1
        rows = slice(end - steps + 1, end + 1)
        powers = discount ** torch.arange(steps)
        total, first = (powers * paid[rows, lane]).sum(), before[rows.start, lane]
        last = 0.0 if bool(x.terminated[end, lane]) else discount**steps * float(after[end, lane])
        if not torch.isclose(total, last - first, atol=1e-4):
            how = "terminated" if bool(x.terminated[end, lane]) else "truncated"
            raise LawBroken(
                f"{reward} does not telescope: over an episode of {steps} steps that was {how} its discounted sum is "
                f"{float(total):.4f}, and {float(last - first):.4f} leaves the best policy alone (phi(s') is 0 at "
                "termination, and only there)"
            )


class _Laws:
    def __init__(self, make: Callable[[], Any], world: World, x: Stretch, tolerance: float) -> None:
        self.make, self.world, self.x, self.tolerance = make, world, x, tolerance

    def reward(self, lanes: int | None = None) -> Reward:
        """A fresh copy of the term, bound; the same parameters each time, as the seed is."""
        reward = as_reward(self.make())
        reward.bind(self.world if lanes is None else replace(self.world, lanes=lanes))
        return reward

    def seat(self) -> RolloutSeat:
        return RolloutSeat(as_reward(self.make()), self.world)

    def values(self, reward: Reward, x: Stretch) -> list[Tensor]:
        """What is known at once, node by node (the nodes of two copies come in the same order)."""
        with torch.no_grad():
            values = reward.evaluate(x)
        return [values[node].clone() for node in reward.order if not node.late]

    def same(self, law: str, a: list[Tensor], b: list[Tensor], follows: str) -> None:
        for one, other in zip(a, b):
            if one.shape != other.shape or not torch.allclose(one, other, atol=self.tolerance, rtol=self.tolerance):
                gap = f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
                if one.shape == other.shape:
                    gap = f"they differ by up to {float((one - other).abs().max()):.3g}"
                raise LawBroken(f"{as_reward(self.make())} breaks the law {law!r}: {follows} ({gap})")

    def pure(self) -> None:
        """Evaluating has no side effect on what ``update`` owns."""
        reward = self.reward()
        before = _saved(reward)
        first = self.values(reward, self.x)
        if not _equal(before, _saved(reward)):
            raise LawBroken(f"{reward} breaks the law 'pure': evaluating it changed what only update may change")
        pure = [i for i, node in enumerate(n for n in reward.order if not n.late) if node.kind == "pure"]
        again = self.values(reward, self.x)
        follows = "the same rows were scored differently again"
        self.same("pure", [first[i] for i in pure], [again[i] for i in pure], follows)

    def subset(self) -> None:
        """A part of the rows gets a part of the scores, in any order; so replay buffers may score at sampling."""
        whole, part = self.reward(), self.reward()
        nodes = [n for n in whole.order if not n.late]
        scores = self.values(whole, self.x)
        rows = torch.randperm(self.x.valid.numel(), generator=torch.Generator().manual_seed(1))[: 2 * STEPS]
        flat = self.x.flat()[rows]
        pure = [i for i, node in enumerate(nodes) if node.kind == "pure"]
        others = [n for n in part.order if not n.late]
        # Streams cannot be asked about single rows: a replay buffer gives the values that it has kept.
        given = {others[i]: scores[i].flatten(0, 1)[rows] for i in range(len(nodes)) if i not in pure}
        with torch.no_grad():
            picked = part.evaluate(flat, given)
        self.same(
            "subset", [picked[others[i]] for i in pure], [scores[i].flatten(0, 1)[rows] for i in pure],
            "scoring some of the rows gives other values than scoring all",
        )  # fmt: skip

    def chunk(self) -> None:
        """Two pieces one after the other, or all at once."""
        whole, pieces = self.reward(), self.reward()
        scores = self.values(whole, self.x)
        for cuts in ([STEPS // 3], list(range(1, self.x.rows[0]))):
            pieces = self.reward()
            parts = [self.values(pieces, self.x[a:b]) for a, b in _pieces(cuts, self.x.rows[0])]
            joined = [torch.cat(column) for column in zip(*parts)]
            self.same("chunk", joined, scores, "the values depend on where the experience was cut into rollouts")

    def lanes(self) -> None:
        """Half of the lanes by themselves."""
        lanes = self.x.rows[1]
        few = list(range(0, lanes, 2))
        x = self.x[:, few]
        x.lane = torch.arange(len(few)).expand(x.rows)
        alone, all_of = self.reward(len(few)), self.reward()
        picked = [value[:, few] for value in self.values(all_of, self.x)]
        self.same("lanes", self.values(alone, x), picked, "lanes see each other")

    def cut(self) -> None:
        """Sums over episodes under several cuts of the same experience."""
        steps = self.x.rows[0]
        sums = []
        for cuts in ([], [STEPS // 2], [3, 5, steps - 4], list(range(1, steps))):
            seat = self.seat()
            parts = [seat(self.x[a:b], 0)[0] for a, b in _pieces(cuts, steps)]
            sums.append(_episode_sums(self.x, torch.cat(parts)))
        for other in sums[1:]:
            self.same("cut", [other], [sums[0]], "an episode's sum depends on where rollouts were cut")

    def invalid(self) -> None:
        """Junk between the rows, flags and ids included; in the last place as well."""
        padded, rows = with_junk(self.x)
        lane = torch.arange(self.x.rows[1]).expand(self.x.rows)
        clean, junk = self.reward(), self.reward()
        try:
            values = [value[rows, lane] for value in self.values(junk, padded)]
            seats = [self.seat(), self.seat()]
            paid = seats[1](padded, 0)[0]
        except (ValueError, RuntimeError, IndexError) as error:
            raise LawBroken(f"{clean} breaks the law 'invalid': junk in such rows raised {error!r}") from error
        self.same("invalid", values, self.values(clean, self.x), "rows that are not valid change the values of others")
        self.same(
            "invalid", [_episode_sums(self.x, paid[rows, lane])], [_episode_sums(self.x, seats[0](self.x, 0)[0])],
            "rows that are not valid change an episode's sum",
        )  # fmt: skip

    def state(self) -> None:
        """Save in mid-episode, go on in a fresh copy, bit for bit."""
        half = STEPS // 2 + 1
        lived, resumed = self.seat(), self.seat()
        lived(self.x[:half], 0)
        resumed.load(pack(lived.state()))
        one, other = lived(self.x[half:], 0)[0], resumed(self.x[half:], 0)[0]
        if not torch.equal(one, other):
            raise LawBroken(
                f"{as_reward(self.make())} breaks the law 'state': it did not go on from its saved state as it would "
                "have (is all that evaluation changes named in memory, and all that update changes in saved?)"
            )


def walk(seed: int = 0, *, dict_obs: bool = True, gamma: float | None = 0.9) -> tuple[World, Stretch]:
    """Random experience ``[T, N]`` on a little grid: episodes that terminate, are truncated, or are left open.

    Facts: ``position`` int64 ``[2]``, ``carrying`` bool, ``distance`` float, ``success`` bool.
    """
    rng = np.random.default_rng(seed)
    shape = (STEPS, LANES)
    position = np.zeros((*shape, 2), np.int64)
    after, carrying = np.zeros_like(position), np.zeros((2, *shape), bool)
    action = rng.integers(0, 5, shape)
    terminated, truncated = rng.random(shape) < 0.08, rng.random(shape) < 0.08
    truncated &= ~terminated
    terminated[-1, 0], terminated[:, 1], truncated[:, 1] = True, False, False  # one ends last, one never
    start, episode, t = np.zeros(shape, bool), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    moves = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
    here, held, begun = rng.integers(0, SIDE, (LANES, 2)), np.zeros(LANES, bool), np.ones(LANES, bool)
    number, age = np.full(LANES, -1), np.zeros(LANES, np.int64)
    for step in range(STEPS):
        number, age = number + begun, np.where(begun, 0, age)
        position[step], carrying[0, step], start[step], episode[step], t[step] = here, held, begun, number, age
        there = np.clip(here + moves[action[step]], 0, SIDE - 1)
        held = held | (there.sum(-1) == SIDE)
        after[step], carrying[1, step] = there, held
        begun = terminated[step] | truncated[step]
        here = np.where(begun[:, None], rng.integers(0, SIDE, (LANES, 2)), there)
        held, age = held & ~begun, age + 1
    reward = np.where(terminated, 1.0, rng.choice([0.0, 0.25], shape))

    def facts(where: Any, carried: Any) -> dict[str, Tensor]:
        return {
            "position": torch.from_numpy(where), "carrying": torch.from_numpy(carried),
            "distance": torch.from_numpy(np.abs(where - SIDE + 1).sum(-1).astype(np.float32)),
            "success": torch.from_numpy(terminated if where is after else np.zeros_like(terminated)),
        }  # fmt: skip

    # The action of the next row; at an episode's end the one that would have come.
    next_action = np.concatenate([action[1:], rng.integers(0, 5, (1, LANES))])
    space, look = _observer(dict_obs)
    x = Stretch.make(
        obs=look(position, carrying[0]),
        next_obs=look(after, carrying[1]),
        action=torch.from_numpy(action),
        reward=torch.from_numpy(reward.astype(np.float32)),
        terminated=torch.from_numpy(terminated),
        truncated=torch.from_numpy(truncated),
        start=torch.from_numpy(start),
        episode=torch.from_numpy(episode),
        t=torch.from_numpy(t),
        facts=facts(position, carrying[0]),
        next_facts=facts(after, carrying[1]),
        extra={
            "log_prob": torch.from_numpy(-rng.random(shape).astype(np.float32)),
            "value": torch.zeros(shape),
            "next_action": torch.from_numpy(next_action),
        },
    )
    gives = frozenset({"log_prob", "value", "next_action"})
    return World(space, gym.spaces.Discrete(5), lanes=LANES, max_steps=8, gamma=gamma, seed=seed, gives=gives), x


def _observer(dict_obs: bool) -> tuple[gym.Space[Any], Callable[[Any, Any], Any]]:
    if not dict_obs:
        space: gym.Space[Any] = gym.spaces.Box(-SIDE, SIDE, (3,), np.float32)

        def vector(where: Any, carried: Any) -> Any:
            return torch.from_numpy(np.concatenate([where / SIDE, carried[..., None]], -1).astype(np.float32))

        return space, vector
    image = Symbols((SIDE, SIDE, 3), (11, 6, 4))
    space = gym.spaces.Dict({"direction": gym.spaces.Discrete(4), "image": image})

    def grid(where: Any, carried: Any) -> Any:
        cells = np.zeros((*where.shape[:-1], SIDE, SIDE, 3), np.uint8)
        np.put_along_axis(
            cells.reshape(*where.shape[:-1], SIDE * SIDE, 3)[..., 0],
            (where[..., :1] * SIDE + where[..., 1:]), 10, axis=-1,
        )  # fmt: skip
        cells[..., 0, 0, 1] = carried
        return {"direction": torch.from_numpy(where.sum(-1) % 4), "image": torch.from_numpy(cells)}

    return space, grid


def with_junk(x: Stretch, seed: int = 0, every: int = 3) -> tuple[Stretch, Tensor]:
    """Put rows of junk between those of ``x [T, N]``, at other places in each lane.

    Returns:
        The stretch ``[T + every, N]``, and where each row of ``x`` now is, int64 ``[T, N]``.
    """
    generator = torch.Generator().manual_seed(seed)
    steps, lanes = x.rows[:2]
    orders = [torch.randperm(steps + every, generator=generator) for _ in range(lanes)]
    places = torch.stack([order[:steps].sort().values for order in orders], 1)
    column = torch.arange(lanes).expand(steps, lanes)

    def spread(v: Tensor) -> Tensor:
        shape = (steps + every, *v.shape[1:])
        if v.is_floating_point():
            out = torch.full(shape, torch.nan, dtype=v.dtype)
        elif v.dtype == torch.bool:
            out = torch.rand(shape, generator=generator) < 0.5
        else:
            out = torch.randint(0, 3, shape, generator=generator).to(v.dtype)
        out[places, column] = v
        return out

    padded = x.map(spread)
    padded.valid = torch.zeros(steps + every, lanes, dtype=torch.bool)
    padded.valid[places, column] = x.valid
    return padded, places


def _pieces(cuts: list[int], steps: int) -> list[tuple[int, int]]:
    bounds = [0, *cuts, steps]
    return list(zip(bounds[:-1], bounds[1:]))


def _episode_sums(x: Stretch, reward: Tensor) -> Tensor:
    """Sum over each finished episode: ``[lanes * episodes, C]``."""
    episodes = int(x.episode.max()) + 1
    key = (x.lane * episodes + x.episode).flatten()
    size = x.rows[1] * episodes
    sums = torch.zeros(size, *reward.shape[2:], dtype=torch.float64).index_add(0, key, reward.flatten(0, 1).double())
    ended = torch.zeros(size).index_add(0, key, (x.done & x.valid).flatten().float())
    return sums[ended > 0].float()


def _saved(reward: Reward) -> list[Any]:
    """What evaluation may not change: of pure terms everything, of others what ``update`` owns."""
    owned = [(*t.saved, *t.memory) if t.kind == "pure" else t.saved for t in reward.order]
    return [pack({name: getattr(t, name) for name in names}) for t, names in zip(reward.order, owned)]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return all(map(_equal, a, b))
    return bool(a == b)
