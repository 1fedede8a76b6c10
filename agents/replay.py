"""What an off-policy learner remembers: a ring of transitions in tensors on one device, time-ordered in each lane.

Memory: ``R = size / N + 1`` rows of N lanes. Each holds an observation (and facts, where a reward or an experience map
is there to read them), an action, a reward and two ends. Next observations are not kept a second time: a step's is the
next row's, and the last ones of episodes, which are not, lie in a pool that is as large as the episodes held demand.
``nbytes`` has the sum. A checkpoint holds all of it.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from torch import Tensor

from ..envs.batch import check_like
from ..envs.spaces import Tree, tree_leaves, tree_map, zeros
from ..shaping.replay_seat import ReplaySeat
from ..shaping.state import pack
from ..shaping.stretch import Stretch
from ..shaping.term import node_seed
from .actions import ActionForm
from .replay_finals import Finals

CHUNK_BYTES, CHUNK_ROWS = 1 << 26, 1 << 14
"""At most so much is drawn at once for several minibatches."""


class Ended(NamedTuple):
    """Episodes that ended in one step, ``[E]``."""

    lane: Tensor
    total: list[float]
    length: list[int]
    success: list[bool] | None


class ReplayBuffer:
    """Transitions of N lanes, the newest ``size``.

    Use: ``begin`` after a reset of all lanes; then ``act`` and ``add`` for every step; ``sample`` or ``batches``.

    Args:
        observation_space: The batch's single observation space.
        action_space: Its single action space.
        size: Transitions in all lanes together; rounded down to whole rows, at least one.
        lanes: N.
        device: Where it all is.
        n_steps: Rewards of so many steps are summed, discounted; fewer where the episode or the experience ends.
        gamma: The discount, for ``n_steps`` above 1.
        seed: Of the draws. They come from a generator on the CPU, so that every device draws the same rows.
        seat: The reward with its experience map, made for ``rows(size, lanes)`` rows; None trains on the task's own.

    Raises:
        ValueError: It would not fit into the machine's memory.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        size: int,
        lanes: int,
        device: torch.device,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        seed: int = 0,
        seat: ReplaySeat | None = None,
    ) -> None:
        self.space, self.lanes, self.device, self.seat = observation_space, lanes, device, seat
        self.form = ActionForm(action_space, device)
        self.n_steps, self.gamma, self.ring = n_steps, gamma, rows(size, lanes)
        self.clock = 0  # steps lived; row clock % ring is where the lanes are now
        self.generator = torch.Generator().manual_seed(node_seed(seed, "replay"))
        self._check_memory()
        # torch.zeros would touch every page at once; torch.empty takes memory as it fills.
        like = zeros(observation_space, (0,))
        self.seen: dict[str, Any] = {"obs": tree_map(self._room, like), "facts": {}}
        self.finals = Finals(like, self.ring, lanes, device)
        self.lived: dict[str, Tensor] = {
            "action": self._room(torch.zeros(0, self.form.width, dtype=self.form.dtype)),
            "reward": self._room(torch.zeros(0)),
            "terminated": self._room(torch.zeros(0, dtype=torch.bool)),
            "truncated": self._room(torch.zeros(0, dtype=torch.bool)),
        }
        if seat is not None:
            self.lived["start"] = self._room(torch.zeros(0, dtype=torch.bool))
            self.lived["episode"] = self._room(torch.zeros(0, dtype=torch.int32))
            self.lived["t"] = self._room(torch.zeros(0, dtype=torch.int32))
            seat.learn_from(self)
        # Episodes that are open.
        self.open: dict[str, Tensor] = {
            "fresh": torch.ones(lanes, dtype=torch.bool, device=device),
            "episode": torch.full((lanes,), -1, dtype=torch.int64, device=device),
            "length": torch.zeros(lanes, dtype=torch.int64, device=device),
            "total": torch.zeros(lanes, dtype=torch.float64, device=device),
        }
        self.shares: Tensor | None = None  # float64 [K], each summand's sum since it was last asked for
        self.shared = 0

    def _room(self, like: Tensor) -> Tensor:
        """A column ``[ring, N, ...]`` for values like those of ``like [0, ...]``."""
        shape = (self.ring, self.lanes, *like.shape[1:])
        return torch.empty(shape, dtype=like.dtype, device=self.device)

    def _check_memory(self) -> None:
        row = sum(leaf[0].numel() * leaf.element_size() for leaf in tree_leaves(zeros(self.space, (1,))))
        self.row_bytes = row + self.form.width * (8 if self.form.choices else 4) + 10
        needed = self.row_bytes * self.ring * self.lanes
        there = needed
        if self.device.type == "cuda":
            there = torch.cuda.get_device_properties(self.device).total_memory
        elif "SC_PHYS_PAGES" in os.sysconf_names:
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > there:
            raise ValueError(
                f"a replay buffer of {self.ring * self.lanes:,} transitions needs {needed / 2**30:,.1f} GiB, and the "
                f"{self.device.type} has {there / 2**30:,.1f}; give a smaller buffer_size"
            )

    # ---- living --------------------------------------------------------------------------------------------

    @property
    def row(self) -> int:
        """Where the lanes are now."""
        return self.clock % self.ring

    def count(self) -> int:
        """How many transitions can be drawn."""
        return min(self.clock, self.ring - 1) * self.lanes

    size = count  # Stable-Baselines3's name

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, the pool of last observations included."""
        kept = {"finals": self.finals.pool, "place": self.finals.place}
        columns = tree_leaves({"seen": self.seen, "lived": self.lived, **kept})
        return sum(leaf.numel() * leaf.element_size() for leaf in columns)

    def now(self) -> Any:
        """The observation ``[N, ...]`` that is acted on next."""
        return tree_map(lambda column: column[self.row], self.seen["obs"])

    def begin(self, obs: Tree, info: Mapping[str, Any]) -> None:
        """Start from a reset of all environments; episodes that it broke off keep their last observations."""
        self._know(info.get("facts", {}))
        if self.clock:
            last = (self.clock - 1) % self.ring
            broken = (self.finals.place[last] < 0).nonzero()[:, 0]
            self.finals.keep(last, broken, tree_map(lambda column: column[self.row], self.seen))
        self._see(self.row, obs, info)
        self.open["fresh"].fill_(True)
        self.open["length"].zero_()
        self.open["total"].zero_()

    def _know(self, facts: Mapping[str, Tensor]) -> None:
        """Make room for the facts that the environment turns out to give."""
        if self.seat is not None and not self.seen["facts"]:
            for name, fact in facts.items():
                self.seen["facts"][name] = self._room(fact[:0])
                self.finals.know(name, fact)

    def _see(self, row: int, obs: Tree, info: Mapping[str, Any]) -> None:
        tree_map(lambda column, new: column[row].copy_(new), self.seen["obs"], obs)
        for name, column in self.seen["facts"].items():
            column[row].copy_(info["facts"][name])

    def act(self, action: Tensor) -> Tensor:
        """Keep what the learner does now, ``[N, D]``, and return it as it is to be executed, ``[N, ...]``."""
        self.lived["action"][self.row].copy_(action)
        return self.form.executed(self.lived["action"][self.row])

    def add(
        self, obs: Tree, reward: Tensor, terminated: Tensor, truncated: Tensor, info: Mapping[str, Any]
    ) -> Ended | None:
        """Keep what a step of the environments gave; returns the episodes that ended.

        Raises:
            RewardError: A term gave NaN, infinity or a wrong shape.
        """
        at, following, lived, now = self.row, (self.clock + 1) % self.ring, self.lived, self.open
        for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            lived[name][at].copy_(value)
        valid = info.get("valid")
        if valid is not None:
            valid = self._valid(valid.to(self.device), at)
        self.finals.free(following)
        done = lived["terminated"][at] | lived["truncated"][at]
        lanes = done.nonzero()[:, 0]  # waits for the device, once a step: the environments did too
        if len(lanes):
            facts = info.get("facts", {}) | dict(info.get("final_facts", {}))
            self.finals.keep(at, lanes, {"obs": info["final_obs"], "facts": facts})
        self._see(following, obs, info)
        start = now["fresh"] if valid is None else now["fresh"] & valid
        if self.seat is not None:
            now["episode"] += start
            lived["start"][at], lived["episode"][at], lived["t"][at] = start, now["episode"].clamp(min=0), now["length"]
            everyone = torch.arange(self.lanes, device=self.device)
            x = self.rows(torch.full_like(everyone, at), everyone)
            if valid is not None:
                x.valid = valid
            share = self.seat.live(x).double()
            self.shares = share if self.shares is None else self.shares + share
            self.shared += self.lanes
        real = reward.to(self.device) if valid is None else torch.where(valid, reward.to(self.device), 0.0)
        now["total"] += real
        now["length"] += 1 if valid is None else valid
        now["fresh"] = done if valid is None else torch.where(valid, done, now["fresh"])
        self.clock += 1
        return self._ended(lanes, info) if len(lanes) else None

    def _valid(self, valid: Tensor, at: int) -> Tensor:
        """Note rows that are no transitions; few environments have such, and only they pay for the column."""
        if "valid" not in self.lived:
            self.lived["valid"] = torch.ones(self.ring, self.lanes, dtype=torch.bool, device=self.device)
        self.lived["valid"][at] = valid
        return valid

    def _ended(self, lanes: Tensor, info: Mapping[str, Any]) -> Ended:
        total, length = self.open["total"][lanes].tolist(), self.open["length"][lanes].tolist()
        self.open["total"][lanes], self.open["length"][lanes] = 0.0, 0
        success = info.get("final_facts", {}).get("success")
        won = None if success is None else success[lanes.to(success.device)].bool().tolist()
        return Ended(lanes, total, length, won)

    # ---- asking --------------------------------------------------------------------------------------------

    def after(self, at: Tensor, lane: Tensor) -> dict[str, Any]:
        """The true next observations and facts of the steps at rows ``at [B]`` of lanes ``lane [B]``."""
        following = tree_map(lambda column: column[(at + 1) % self.ring, lane], self.seen)
        return self.finals.instead(at, lane, following)

    def rows(self, at: Tensor, lane: Tensor) -> Stretch:
        """Kept transitions ``[B]`` as rewards see them, actions as executed."""
        before, after = tree_map(lambda column: column[at, lane], self.seen), self.after(at, lane)
        own = {name: self.lived[name][at, lane] for name in self.lived if name != "valid"}
        return Stretch(
            obs=before["obs"],
            action=self.form.executed(own["action"]),
            reward=own["reward"],
            next_obs=after["obs"],
            terminated=own["terminated"],
            truncated=own["truncated"],
            start=own["start"],
            valid=torch.ones_like(own["start"]),
            lane=lane,
            episode=own["episode"].long(),
            t=own["t"].long(),
            facts=before["facts"],
            next_facts=after["facts"],
        )

    def pick(self, index: Tensor) -> Stretch:
        """The transitions numbered ``index``, int64 ``[n]``, the oldest row first."""
        return self.rows(*self._locate(index))

    def _locate(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Row and lane of the transitions numbered ``index``, the oldest row first."""
        index = index.to(self.device, non_blocking=True)
        oldest = self.clock - self.count() // self.lanes
        return (oldest + index // self.lanes) % self.ring, index % self.lanes

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw ``n`` rows and lanes with replacement, int64 ``[n]`` each.

        Raises:
            RuntimeError: Nothing has been lived yet.
        """
        count = self.count()
        if not count:
            raise RuntimeError("the replay buffer is empty: live some steps first (learning_starts)")
        at, lane = self._locate(self._numbers(n, count))
        if "valid" in self.lived:  # a foreign vector environment: it lives on the CPU, where asking costs nothing
            while not bool((good := self.lived["valid"][at, lane]).all()):
                again = self._locate(self._numbers(n, count))
                at, lane = torch.where(good, at, again[0]), torch.where(good, lane, again[1])
        return at, lane

    def _numbers(self, n: int, count: int) -> Tensor:
        """Numbers of transitions out of ``count``, int64 ``[n]``."""
        return torch.randint(count, (n,), generator=self.generator)

    @torch.no_grad()
    def sample(self, batch_size: int, env: None = None) -> Any:
        """Draw a minibatch with the rewards of now, in Stable-Baselines3's form.

        With an experience map it has as many rows as the map makes of ``batch_size``.

        Args:
            batch_size: B.
            env: Not supported: observations are normalised by a wrapper of the batch.

        Raises:
            RewardError: A term gave NaN, infinity or a wrong shape.
        """
        at, lane = self.draw(batch_size)
        if self.n_steps > 1:
            return self._several_steps(at, lane)
        action = self.lived["action"][at, lane]
        if self.seat is None:
            obs = tree_map(lambda column: column[at, lane], self.seen["obs"])
            reward, terminated = self.lived["reward"][at, lane], self.lived["terminated"][at, lane]
            return self._samples(obs, action, self.after(at, lane)["obs"], terminated, reward)
        x, origin, reward = self.seat.pay(self.rows(at, lane), at, lane, self.clock * self.lanes)
        action = action if origin is None else action[origin]
        return self._samples(x.obs, action, x.next_obs, x.terminated, reward)

    def _several_steps(self, at: Tensor, lane: Tensor) -> Any:
        """Returns of up to ``n_steps`` steps, and what they are bootstrapped from."""
        ahead = torch.arange(self.n_steps, device=self.device)[:, None]
        steps = (at + ahead) % self.ring
        left = (self.row - at - 1) % self.ring  # steps that were lived after this one
        stops = (self.finals.place[steps, lane] >= 0) | (ahead >= left)
        going = torch.cat([torch.zeros_like(stops[:1]), stops[:-1]]).cumsum(0) == 0
        last = going.sum(0) - 1
        steps = torch.where(going, steps, at)  # what lies beyond an end is not asked about
        if self.seat is None:
            reward = self.lived["reward"][steps, lane]
        else:
            flat, lanes = steps.flatten(), lane.expand_as(steps).flatten()
            reward = self.seat.pay(self.rows(flat, lanes), flat, lanes, self.clock * self.lanes)[2].reshape(steps.shape)
        total = (reward * self.gamma**ahead * going).sum(0)
        end = (at + last) % self.ring
        obs = tree_map(lambda column: column[at, lane], self.seen["obs"])
        terminated, action = self.lived["terminated"][end, lane], self.lived["action"][at, lane]
        discount = self.gamma ** (last + 1).float()
        return self._samples(obs, action, self.after(end, lane)["obs"], terminated, total, discount)

    def _samples(
        self, obs: Any, action: Tensor, after: Any, terminated: Tensor, reward: Tensor, discount: Tensor | None = None
    ) -> Any:
        kind = DictReplayBufferSamples if isinstance(obs, dict) else ReplayBufferSamples
        ends, share = terminated.float()[:, None], None if discount is None else discount[:, None]
        return kind(obs, action, after, ends, reward[:, None], share)

    def batches(self, count: int, batch_size: int) -> Iterator[Any]:
        """Draw ``count`` minibatches, many in one go: one look at the rewards' finiteness then serves them all."""
        most = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (2 * self.row_bytes * self.n_steps)) // batch_size)
        if self.seat is not None and self.seat.experience is not None:
            most = 1  # a map may order its rows as it likes
        while count > 0:
            chunk = min(count, most)
            count -= chunk
            drawn = self.sample(chunk * batch_size)
            for k in range(chunk):
                part = slice(k * batch_size, (k + 1) * batch_size)
                yield type(drawn)(*(None if c is None else tree_map(lambda v: v[part], c) for c in drawn))  # noqa: B023

    def report(self, step: int) -> dict[str, Tensor]:
        """Each summand's mean share of a step since this was last asked, as ``reward/<name>``."""
        if self.seat is None or self.shares is None:
            return {}
        shares = self.seat.reward.shares(self.shares / self.shared, step)
        self.shares, self.shared = None, 0
        return {f"reward/{name}": share for name, share in shares.items()}

    # ---- state ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All of it, as a state tree."""
        seen, lived = min(self.clock + 1, self.ring), min(self.clock, self.ring)
        columns = {**self.lived, "final": self.finals.placed()}
        return {
            "clock": self.clock,
            "seen": pack(tree_map(lambda v: v[:seen], self.seen)),
            "lived": {name: v[:lived].clone() for name, v in columns.items()},
            "pool": self.finals.queue(),
            "open": pack(self.open),
            "generator": self.generator.get_state(),
            "shares": None if self.shares is None else self.shares.clone(),
            "shared": self.shared,
            "seat": None if self.seat is None else self.seat.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` gave, into a buffer made with the same arguments.

        Raises:
            ValueError: The buffer is of another size, or of other spaces, lanes or reward, or it is damaged.
        """
        seen, lived = state["seen"], state["lived"]
        self.clock = state["clock"]
        self._know(seen["facts"] and tree_map(lambda v: v[0], seen["facts"]))
        if "valid" in lived and "valid" not in self.lived:
            self._valid(torch.ones(self.lanes, dtype=torch.bool, device=self.device), 0)
        rows_of = {"seen": min(self.clock + 1, self.ring), "lived": min(self.clock, self.ring)}
        columns = {**self.lived, "final": self.finals.place}
        for part, own, there in (("seen", self.seen, seen), ("lived", columns, dict(lived))):
            like = tree_map(lambda v: v[: rows_of[part]], own)  # noqa: B023
            try:
                check_like(there, like, part)
            except ValueError as error:
                raise ValueError(
                    "the saved replay buffer is of another size, or of other environments or rewards: build the model "
                    f"with the same arguments, on as many environments ({error})"
                ) from None
        tree_map(lambda column, v: column[: len(v)].copy_(v), self.seen, seen)
        for name, column in self.lived.items():
            column[: len(lived[name])].copy_(lived[name])
        self.finals.load(state["pool"], lived["final"])
        self.open = tree_map(lambda v: v.clone().to(self.device), state["open"])
        self.generator.set_state(state["generator"].cpu())
        self.shares = None if state["shares"] is None else state["shares"].clone().to(self.device)
        self.shared = state["shared"]
        if self.seat is not None:
            self.seat.load(state["seat"])


def rows(size: int, lanes: int) -> int:
    """Rows of the ring that keeps ``size`` transitions of ``lanes`` lanes: one more, where the lanes are now."""
    return max(size // lanes, 1) + 1
