"""Whole episodes that are kept: what a candidate is judged on before anything is trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ....envs.batch import BatchEnv
from ....envs.spaces import tree_map
from ...stretch import Stretch

LONGEST = 1000  # steps of an episode that are kept, where the environment has no cap of its own
Act = Callable[[Any], Tensor]


@dataclass(eq=False)
class Recorded:
    """E whole episodes, one after the other.

    Attributes:
        x: Their transitions, flat ``[B]``; ``x.episode`` numbers the episodes from 0.
        success: Bool ``[E]``; where the environment cannot tell, whether the episode got any of the task's reward.
        returns: The task's own return ``[E]``, undiscounted.
        knows_success: Whether the environment tells success.
    """

    x: Stretch
    success: Tensor
    returns: Tensor
    knows_success: bool = True

    def __len__(self) -> int:
        """E."""
        return len(self.success)

    @property
    def score(self) -> Tensor:
        """What the task says of each episode ``[E]``: 1 or 0 for success, the task's return where it tells none."""
        return self.success.float() if self.knows_success else self.returns

    def rows(self, episode: int) -> Stretch:
        """The transitions of one episode ``[L]``."""
        return self.x[self.x.episode == episode]

    def total(self, value: Tensor, gamma: float = 1.0) -> Tensor:
        """The return ``[E]`` of what each transition is worth, ``value`` ``[B]``."""
        weighed = value * gamma ** self.x.t.to(value.dtype)
        return torch.zeros(len(self), dtype=value.dtype).index_add(0, self.x.episode, weighed)

    def pick(self, episodes: Tensor) -> "Recorded":
        """Only these episodes (int64 indices), numbered anew."""
        parts = [self.rows(int(e)) for e in episodes]
        for k, part in enumerate(parts):
            part.episode = torch.full_like(part.episode, k)
        return Recorded(Stretch.cat(parts), self.success[episodes], self.returns[episodes], self.knows_success)

    @classmethod
    def cat(cls, parts: Sequence["Recorded"]) -> Self:
        """Join recordings of one environment."""
        stretches, first = [], 0
        for part in parts:
            x = part.x.map(lambda v: v)
            x.episode = x.episode + first
            stretches.append(x)
            first += len(part)
        return cls(
            Stretch.cat(stretches),
            torch.cat([p.success for p in parts]),
            torch.cat([p.returns for p in parts]),
            all(p.knows_success for p in parts),
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file."""
        from safetensors.torch import save_file

        tensors = {f"x/{name}": leaf for name, leaf in _leaves(self.x.to_tree())}
        tensors |= {"success": self.success, "returns": self.returns}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, aside, {"knows_success": str(int(self.knows_success))}
        )
        aside.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: It is no such file.
        """
        from safetensors import safe_open

        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                knows = file.metadata()["knows_success"] == "1"
            tree: dict[str, Any] = {name: {} for name in ("facts", "next_facts", "extra")}
            for name, tensor in tensors.items():
                if name.startswith("x/"):
                    *folders, leaf = name[2:].split("/")
                    place = tree
                    for folder in folders:
                        place = place.setdefault(folder, {})
                    place[leaf] = tensor
            return cls(Stretch.from_tree(tree), tensors["success"], tensors["returns"], knows)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} holds no recorded episodes: {error}") from error
        except Exception as error:  # safetensors has an error class of its own, derived from Exception alone
            raise ValueError(f"{path} is no safetensors file: {error}") from error


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            yield from _leaves(leaf, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", leaf


@contextmanager
def own_seed(seed: int) -> Iterator[None]:
    """Seed torch for a while, then put its stream back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def at_random(env: BatchEnv) -> Act:
    """A policy that draws from the action space, by torch's stream."""
    import gymnasium as gym

    space = env.single_action_space
    if isinstance(space, gym.spaces.Discrete):
        first, count = int(space.start), int(space.n)
        return lambda obs: torch.randint(first, first + count, (env.num_envs,))
    if isinstance(space, gym.spaces.Box):
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            raise ValueError(f"random actions need finite bounds, and the space is {space}")
        return lambda obs: low + (high - low) * torch.rand(env.num_envs, *space.shape)
    raise ValueError(f"random actions are drawn from Discrete and Box spaces, not from {space}")


@torch.no_grad()
def record(env: BatchEnv, act: Act | None = None, episodes: int | None = None, seed: int = 0) -> Recorded:
    """Play each lane's first episode and keep all of it (on the CPU).

    Args:
        env: A batch that is this function's alone; it is reset.
        act: The policy, a batch of observations to a batch of actions; None draws at random.
        episodes: How many, at most the number of lanes; None for all lanes.
        seed: Of levels and actions; torch's stream is left as it was.
    """
    lanes, act = env.num_envs, act or at_random(env)
    count = lanes if episodes is None else min(episodes, lanes)
    pieces: list[dict[str, Any]] = []
    success, knows = torch.zeros(lanes, dtype=torch.bool), True
    live = torch.ones(lanes, dtype=torch.bool)
    with own_seed(seed):
        obs, info = env.reset(seed=seed)
        obs, facts = _kept(obs), _kept(info.get("facts", {}))
        for t in range(min(env.max_steps or LONGEST, LONGEST)):
            action = act(obs)
            raw, reward, terminated, truncated, info = env.step(action)
            new, new_facts, ended = _kept(raw), _kept(info.get("facts", {})), info["_final_obs"].cpu()
            last, last_facts = _kept(info["final_obs"]), _kept(info.get("final_facts", {}))
            over = live & (terminated | truncated).cpu()
            told = {name: _where(ended, last_facts.get(name, fact), fact) for name, fact in new_facts.items()}
            if "success" in last_facts:
                success |= over & last_facts["success"].bool()
            elif bool(over.any()):
                knows = False
            pieces.append({
                "obs": obs, "action": _kept(action), "reward": reward.float().cpu().clone(),
                "next_obs": tree_map(partial(_where, ended), last, new),
                "terminated": terminated.cpu().clone(), "truncated": truncated.cpu().clone(),
                "start": torch.full((lanes,), t == 0), "valid": live.clone(), "lane": torch.arange(lanes),
                "episode": torch.arange(lanes), "t": torch.full((lanes,), t), "facts": facts, "next_facts": told,
            })  # fmt: skip
            obs, facts, live = new, new_facts, live & ~over
            if not bool(live[:count].any()):
                break
    x = Stretch(**tree_map(lambda *steps: torch.stack(steps, 1), *pieces)).flat()  # lane by lane
    x = x[x.valid & (x.lane < count)]
    returns = torch.zeros(count).index_add(0, x.episode, x.reward)
    return Recorded(x, success[:count] if knows else returns > 0, returns, knows)


def _kept(tree: Any) -> Any:
    return tree_map(lambda leaf: torch.as_tensor(leaf).detach().cpu().clone(), tree)


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *[1] * (b.ndim - 1)), a.to(b.dtype), b)
