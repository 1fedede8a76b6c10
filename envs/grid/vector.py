"""Many MiniGrid environments at once: what ``gym.make_vec`` calls for the ids of this folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from ..._lazy import collector_at_rest
from . import single

if TYPE_CHECKING:
    from ..batch import BatchEnv


def make_vec(
    upstream: str,
    num_envs: int,
    *,
    device: str = "cpu",
    max_episode_steps: int | None = None,
    threads: int | None = None,
    levels: Any = None,
    facts: Sequence[str] = (),
    observation: str = "partial",
    observation_tile: int = 8,
    **kwargs: Any,
) -> "BatchEnv":
    """Make ``num_envs`` environments of one upstream id as a batch.

    The native engine steps what it has; the rest runs upstream's class through the bridge. Either way lane i of seed
    s is the single environment after ``reset(seed=s, options={"lane": i})``.

    Args:
        upstream: Upstream's id, such as ``"MiniGrid-DoorKey-8x8-v0"``.
        num_envs: How many environments, at least 1.
        device: A torch device, "cpu" or "cuda".
        max_episode_steps: Truncate after so many steps, where that is before upstream's own ``max_steps``.
        threads: Threads of the native engine on a CPU; None for as many cores as are worth waking.
        levels: None for levels without end, else a fixed set: a count, keys, ``levels.upstream(seeds)``, a ``Levels``
            or the path of its file (see ``cairn.envs.grid.levels``). Native ids only.
        facts: More facts that are wanted, any of "objects", "doors", "room" and "hash" (see
            ``cairn.envs.grid.facts``). Native ids only.
        observation: What ``image`` shows: "partial", "full", "onehot", "rgb" or "rgb_full" (see ``views.GridView``).
        observation_tile: Pixels of a cell's side in "rgb" and "rgb_full".
        kwargs: Arguments of upstream's class.

    Raises:
        ValueError: If ``num_envs`` or ``max_episode_steps`` is less than 1, or the levels do not fit.
        gymnasium.error.NameNotFound: If the id is unknown.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs is how many environments to make, at least 1; got {num_envs}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise ValueError(
            f"max_episode_steps is at least 1, got {max_episode_steps}; leave it out for upstream's own cap"
        )
    with collector_at_rest():
        from .engine import GridBatch, plan_of

    if kwargs.get("render_mode") in (None, "rgb_array") and plan_of(upstream, **kwargs)[2] is not None:
        batch = GridBatch(
            upstream,
            num_envs,
            device=device,
            max_episode_steps=max_episode_steps,
            threads=threads,
            levels=levels,
            facts=facts,
            **kwargs,
        )
        if observation == "partial":
            return batch
        from .views import GridView

        return GridView(batch, observation, observation_tile)
    if levels is not None or facts:
        raise ValueError(
            f"levels= and facts= are for what the native engine steps, and {upstream} with {kwargs} is bridged"
        )
    from ..bridges import from_gymnasium

    def one(*_: int) -> gym.Env[Any, Any]:
        env = single.make(upstream, observation=observation, observation_tile=observation_tile, **kwargs)
        return env if max_episode_steps is None else gym.wrappers.TimeLimit(env, max_episode_steps)

    return from_gymnasium(one, num_envs, device=device)
