"""What an on-policy learner has just lived: preallocated tensors on one device, time first.

``T`` steps, ``N`` environments, ``K`` reward channels. The carry (observation, open episodes) goes over from one
rollout to the next, and is the only part that a checkpoint needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.spaces import Tree, torch_dtype, tree_leaves, tree_map, zeros
from ..shaping.stretch import Stretch
from .functional import Ends, episode_ends
from .keeping import Keeper, Leaf

_ALL = slice(None)
_KEPT = ("valid", "final_obs", "_final_obs", "facts", "final_facts")  # of an info
_CARRY = ("start", "total", "length", "begun")


class Rollout:
    """``T`` steps of ``N`` environments.

    Args:
        observation_space: The batch's single observation space.
        action_space: Its single action space.
        steps: T.
        lanes: N.
        channels: K.
        device: Where the tensors are.
        whole: Also keep true next observations and facts, which rewards need and the bare task does not.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        steps: int,
        lanes: int,
        channels: int,
        device: torch.device,
        whole: bool,
    ) -> None:
        shape, self.steps, self.lanes, self.device, self.whole = (steps, lanes), steps, lanes, device, whole
        # One row more than steps: row t + 1 is what step t led to, after the reset where there was one.
        self.obs: Any = zeros(observation_space, (steps + 1, lanes), device)
        self.next_obs: Any = zeros(observation_space, shape, device) if whole else None
        self.facts: dict[str, Tensor] = {}
        self.next_facts: dict[str, Tensor] = {}
        self._keep = Keeper()
        # A sampled bit is a float to the distribution, whatever the environment calls it.
        dtype = torch.float32 if isinstance(action_space, spaces.MultiBinary) else torch_dtype(action_space)
        self.action = torch.zeros(*shape, *(action_space.shape or ()), dtype=dtype, device=device)
        self.log_prob = torch.zeros(shape, device=device)
        self.value = torch.zeros(*shape, channels, device=device)
        self.reward = torch.zeros(shape, device=device)
        self.terminated, self.truncated, self.success = (
            torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(3)
        )
        self.valid: Tensor | None = None  # allocated by the first environment that has rows that are not
        self.knows_success = False
        # Last observations of the episodes that were cut: (step, lanes, rows of the tree).
        self.cuts: list[tuple[int, Tensor, Any]] = []
        # Row 0 <= row <= T of obs and facts is where the lanes are now; lived counts the steps since the last close.
        self.row = self.lived = 0
        # The carry, with that row: episodes that are open.
        self.start = torch.ones(lanes, dtype=torch.bool, device=device)
        self.total = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.length, self.begun = (torch.zeros(lanes, dtype=torch.int64, device=device) for _ in range(2))

    def begin(self, obs: Tree, info: Mapping[str, Any]) -> None:
        """Start from a reset of all environments."""
        self.row = self.lived = 0
        self.cuts.clear()
        tree_map(lambda buffer, new: buffer[0].copy_(new), self.obs, obs)
        self._know(info.get("facts", {}))
        for name, fact in self.facts.items():
            fact[0] = info["facts"][name]
        self.start.fill_(True)
        for counter in (self.total, self.length, self.begun):
            counter.zero_()

    def _know(self, facts: Mapping[str, Tensor]) -> None:
        """Allocate room for the facts that the environment turns out to give: another one may give others."""
        if not self.whole or _shapes(facts) == _shapes({name: fact[0] for name, fact in self.facts.items()}):
            return
        self.facts, self.next_facts = (
            {name: fact.new_zeros((steps, *fact.shape), device=self.device) for name, fact in facts.items()}
            for steps in (self.steps + 1, self.steps)
        )

    def at(self, t: int, lanes: slice = _ALL) -> Any:
        """The observation ``[N, ...]`` that step ``t`` acts on, of some lanes."""
        return tree_map(lambda buffer: buffer[t, lanes], self.obs)

    def act(self, t: int, action: Tensor, value: Tensor, log_prob: Tensor, lanes: slice = _ALL) -> None:
        """Keep what the policy did in some lanes at step ``t``: ``[N, ...]``, ``[N, K]``, ``[N]``."""
        self.action[t, lanes].copy_(action)
        self.value[t, lanes].copy_(value)
        self.log_prob[t, lanes].copy_(log_prob)

    def add(
        self, t: int, obs: Tree, reward: Tensor, terminated: Tensor, truncated: Tensor, info: Mapping[str, Any]
    ) -> None:
        """Keep what a step of the environments gave."""
        self.lived = t + 1
        if "valid" in info and self.valid is None:
            self.valid = torch.ones_like(self.terminated)
        self.knows_success |= "success" in info.get("final_facts", {})
        parts = {"obs": obs, "info": {name: info[name] for name in _KEPT if name in info}}
        given = [reward, terminated, truncated, *tree_leaves(parts)]

        def leaves() -> list[Leaf]:
            return self._leaves(obs, reward, terminated, truncated, info)

        ended = info["_final_obs"] if self.whole else terminated
        if self.device.type != "cpu" or not self._keep(given, leaves, t, ended):
            for leaf in leaves():
                leaf.to[t].copy_(leaf.now)
                if leaf.last is not None and leaf.to_last is not None:
                    _choose(ended, leaf.last, leaf.now, leaf.to_last[t])
        lanes = (truncated & ~terminated).nonzero().squeeze(1)
        if len(lanes):
            rows = tree_map(lambda last: last[lanes].to(self.device), info["final_obs"])
            self.cuts.append((t, lanes.to(self.device), rows))

    def _leaves(
        self, obs: Tree, reward: Tensor, terminated: Tensor, truncated: Tensor, info: Mapping[str, Any]
    ) -> list[Leaf]:
        """What a step gave, and where it goes."""
        leaves = [Leaf(reward, self.reward), Leaf(terminated, self.terminated), Leaf(truncated, self.truncated)]
        if "valid" in info and self.valid is not None:
            leaves.append(Leaf(info["valid"], self.valid))
        facts, final_facts = info.get("facts", {}), info.get("final_facts", {})
        if "success" in final_facts:
            leaves.append(Leaf(final_facts["success"], self.success))
        pick = {"now": obs, "to": tree_map(lambda buffer: buffer[1:], self.obs)}
        if self.whole:
            pick |= {"last": info["final_obs"], "to_last": self.next_obs}
        tree_map(lambda to, *others: leaves.append(Leaf(others[0], to, *others[1:])), pick.pop("to"), *pick.values())
        if any(name not in facts or facts[name].shape != fact.shape[1:] for name, fact in self.facts.items()):
            had = _told({name: fact[0] for name, fact in self.facts.items()})
            raise ValueError(
                f"the environment gives the facts {_told(facts)}, and gave {had} "
                "when it was reset: after set_env to another kind of level, reset it (force_reset=True)"
            )
        for name, fact in self.facts.items():
            now = facts[name]
            leaves.append(Leaf(now, fact[1:], final_facts.get(name, now), self.next_facts[name]))
        return leaves

    def cut_rows(self) -> tuple[Any, Tensor, Tensor] | None:
        """Last observations ``[C, ...]`` of the episodes that were cut, with their steps and lanes ``[C]``."""
        if not self.cuts:
            return None
        rows = tree_map(lambda *parts: torch.cat(parts), *(rows for _, _, rows in self.cuts))
        steps = torch.cat([torch.full_like(lanes, t) for t, lanes, _ in self.cuts])
        return rows, steps, torch.cat([lanes for _, lanes, _ in self.cuts])

    def stretch(self, executed: Tensor) -> Stretch:
        """What was lived as rewards see it; ``executed`` are the actions as carried out."""
        steps = self.lived
        done = (self.terminated | self.truncated)[:steps]
        valid = torch.ones_like(done) if self.valid is None else self.valid[:steps]
        start = torch.empty_like(done)
        start[0] = self.start
        start[1:] = done[:-1]
        if self.valid is not None:  # an episode starts at the first real row after an end
            for t in range(1, steps):
                start[t] |= start[t - 1] & ~valid[t - 1]
            start &= valid
        rows = valid.long().cumsum(0) - 1
        return Stretch(
            obs=tree_map(lambda buffer: buffer[:steps], self.obs),
            action=executed[:steps],
            reward=self.reward[:steps],
            next_obs=tree_map(lambda buffer: buffer[:steps], self.next_obs),
            terminated=self.terminated[:steps],
            truncated=self.truncated[:steps],
            start=start,
            valid=valid,
            lane=torch.arange(self.lanes, device=self.device).expand(steps, -1),
            episode=(start.long().cumsum(0) + self.begun - 1).clamp(min=0),
            t=rows - torch.where(start, rows, -self.length).cummax(0).values,
            facts={name: fact[:steps] for name, fact in self.facts.items()},
            next_facts={name: fact[:steps] for name, fact in self.next_facts.items()},
            extra={"log_prob": self.log_prob[:steps], "value": self.value[:steps].sum(-1)},
        )

    def infos(self, t: int, info: Mapping[str, Any]) -> "Infos":
        """The infos of step ``t``, which was the last one lived."""

        def episode(lane: int) -> tuple[float, int]:
            ended = (self.terminated | self.truncated)[:t, lane].nonzero()
            first = int(ended[-1]) + 1 if len(ended) else 0
            gained = self.reward[first : t + 1, lane].double().sum() + (0 if len(ended) else self.total[lane])
            return float(gained), t + 1 - first + (0 if len(ended) else int(self.length[lane]))

        return Infos(self.terminated[t], self.truncated[t], info, episode)

    def close(self) -> Ends:
        """End the rollout with what was lived: settle the carry, and tell which episodes ended."""
        steps = self.lived
        done = (self.terminated | self.truncated)[:steps]
        valid = None if self.valid is None else self.valid[:steps]
        ends, self.total, self.length = episode_ends(self.reward[:steps], done, self.total, self.length, valid)
        if valid is None:
            self.begun = self.begun + self.start + done[:-1].sum(0)
            self.start = done[-1].clone()
        else:
            for t in range(steps):
                self.begun = self.begun + (self.start & valid[t])
                self.start = (self.start & ~valid[t]) | done[t]
        self.row, self.lived = steps, 0
        return ends

    def open(self, threads: int = 1) -> None:
        """Begin the next rollout where the last one ended, closed or interrupted; so many threads keep its steps."""
        if threads != self._keep.threads:
            self._keep = Keeper(threads)
        if self.lived:
            self.close()
        tree_map(lambda buffer: buffer[0].copy_(buffer[self.row]), {"obs": self.obs, "facts": self.facts})
        self.row = 0
        self.cuts.clear()

    def state(self) -> dict[str, Any]:
        """The carry, as a state tree."""
        first = tree_map(lambda buffer: buffer[self.row].clone(), {"obs": self.obs, "facts": self.facts})
        return {**first, **{name: getattr(self, name).clone() for name in _CARRY}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` gave."""
        self.row = self.lived = 0
        self._know(state["facts"])
        tree_map(lambda buffer, row: buffer[0].copy_(row), self.obs, state["obs"])
        for name, fact in self.facts.items():
            fact[0].copy_(state["facts"][name])
        for name in _CARRY:
            setattr(self, name, state[name].clone().to(self.device))


def _shapes(facts: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a buffer for facts ``[N, ...]`` depends on."""
    return {name: (fact.shape, fact.dtype) for name, fact in facts.items()}


def _told(facts: Mapping[str, Tensor]) -> str:
    """Facts by name, with the shape in each lane."""
    return ", ".join(f"{name} {list(fact.shape[1:])}" for name, fact in facts.items())


def _choose(mask: Tensor, yes: Tensor, no: Tensor, out: Tensor) -> None:
    """Write ``yes`` where ``mask [N]`` and ``no`` elsewhere into ``out [N, ...]``."""
    out.copy_(torch.where(mask.reshape(-1, *(1,) * (no.dim() - 1)), yes, no))


class Infos(Sequence[dict[str, Any]]):
    """The infos of one step as Stable-Baselines3's callbacks know them: dicts, made when somebody looks.

    Args:
        terminated: Bool ``[N]``.
        truncated: Bool ``[N]``.
        info: What the batch said.
        episode: Return and length of the episode that ended in a lane.
    """

    def __init__(
        self,
        terminated: Tensor,
        truncated: Tensor,
        info: Mapping[str, Any],
        episode: Callable[[int], tuple[float, int]],
    ) -> None:
        self._terminated, self._truncated, self._info, self._episode = terminated, truncated, info, episode
        self._done: list[bool] | None = None

    def __len__(self) -> int:
        return len(self._terminated)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        if self._done is None:
            self._done = (self._terminated | self._truncated).tolist()
        facts = self._info.get("final_facts" if self._done[i] else "facts", {})
        row: dict[str, Any] = {name: fact[i].cpu().numpy() for name, fact in facts.items() if name != "success"}
        if not self._done[i]:
            return row
        gained, length = self._episode(i)
        row["episode"] = {"r": gained, "l": length}
        row["terminal_observation"] = tree_map(lambda leaf: leaf[i].cpu().numpy(), self._info["final_obs"])
        row["TimeLimit.truncated"] = bool(self._truncated[i] & ~self._terminated[i])
        if "success" in facts:
            row["is_success"] = bool(facts["success"][i])
        return row
