"""Demonstrations out of what other libraries keep: episodes as lists, SB3's rollouts, ``imitation``'s trajectories."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ...envs.spaces import children, encode, torch_dtype, tree_leaves, tree_map
from .demonstrations import Demonstrations


def from_episodes(
    episodes: Sequence[Mapping[str, Any]],
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    about: Mapping[str, Any] | None = None,
) -> Demonstrations:
    """Join episodes whose columns have Minari's names.

    Args:
        episodes: Of each, ``observations`` (L + 1 of them: a list of the single environment's, an array ``[L + 1,
            ...]``, or a dict of arrays), ``actions``, ``rewards``, ``terminations`` and ``truncations`` (L each).
        observation_space: A batch's single observation space.
        action_space: Its single action space.
        about: Kept with them.

    Raises:
        ValueError: There are none, or one has another shape, space or number of rows.
    """
    if not episodes:
        raise ValueError("there are no demonstrations: the list of episodes is empty")
    states, columns = [], []
    for number, episode in enumerate(episodes):
        try:
            seen = encode(observation_space, _rows(observation_space, episode["observations"]))
            parts = [
                actions_of(action_space, episode["actions"]),
                *(torch.as_tensor(np.asarray(episode[name])) for name in ("rewards", "terminations", "truncations")),
            ]
        except KeyError as error:
            raise ValueError(f"episode {number} has no {error}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"episode {number}: {error}") from error
        length = len(parts[1])
        if len(tree_leaves(seen)[0]) != length + 1 or any(len(part) != length for part in parts):
            raise ValueError(
                f"episode {number} has {len(tree_leaves(seen)[0])} observations, {len(parts[0])} actions and {length} "
                "rewards: L steps have L + 1 observations (is its last one missing?)"
            )
        states.append(seen)
        columns.append(parts)
    action, reward, terminated, truncated = (torch.cat(column) for column in zip(*columns))
    lengths = torch.tensor([len(parts[1]) for parts in columns])
    together = tree_map(lambda *vs: torch.cat(vs), *states)
    return Demonstrations(
        observation_space, action_space, together, action, reward, terminated, truncated, lengths, about
    )


def _rows(space: gym.Space[Any], obs: Any) -> Any:
    """A dict of columns with lists of text in it passes as it is; a tuple of columns gets the names of its parts."""
    if isinstance(obs, tuple) and children(space) is not None:
        return {str(i): part for i, part in enumerate(obs)}
    return obs


def actions_of(space: gym.Space[Any], actions: Any) -> Tensor:
    """Actions ``[L, ...]`` in a space's dtype.

    Raises:
        ValueError: They are fractions where the space has whole numbers, or of another shape.
    """
    array = np.asarray(actions)
    if array.dtype.kind == "f" and not isinstance(space, spaces.Box) and (array != np.round(array)).any():
        raise ValueError(f"actions are fractions, and {space} has whole numbers")
    shape = tuple(space.shape or ())
    if array.shape[1:] != shape and array.shape[1:] != (*shape, 1):
        raise ValueError(f"actions have the shape {array.shape[1:]}, and {space} has {shape}")
    return torch.as_tensor(array).to(torch_dtype(space)).reshape(len(array), *shape)


def from_imitation(
    trajectories: Sequence[Any], observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> Demonstrations:
    """Convert trajectories of the library ``imitation`` (``Trajectory`` or ``TrajectoryWithRew``).

    Each has ``obs [L + 1, ...]``, ``acts [L, ...]``, ``terminal`` (False where the episode was cut), and maybe
    ``rews [L]``; without rewards they are 0.
    """
    episodes = []
    for trajectory in trajectories:
        length, last = len(trajectory.acts), bool(trajectory.terminal)
        ends = np.zeros((2, length), bool)
        ends[0 if last else 1, -1:] = True
        obs = trajectory.obs
        obs = getattr(obs, "_d", obs)  # its DictObs
        episodes.append({
            "observations": obs, "actions": trajectory.acts, "rewards": getattr(trajectory, "rews", np.zeros(length)),
            "terminations": ends[0], "truncations": ends[1],
        })  # fmt: skip
    return from_episodes(episodes, observation_space, action_space)
