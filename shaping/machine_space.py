"""Where a machine's state stands in an observation."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

# The part of a Dict observation that holds the machine's state.
KEY = "machine"


def with_state(space: gym.Space[Any], states: int) -> gym.Space[Any]:
    """An observation space with a machine's state in it.

    Raises:
        TypeError: Neither a one-dimensional Box, nor Discrete, nor Dict.
    """
    hot = spaces.Box(0.0, 1.0, (states,), np.float32)
    if isinstance(space, spaces.Dict):
        return spaces.Dict({**space.spaces, KEY: hot})
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n) * states)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        low = np.concatenate([space.low, np.zeros(states, space.dtype)])
        high = np.concatenate([space.high, np.ones(states, space.dtype)])
        return spaces.Box(low, high, dtype=space.dtype.type)
    raise TypeError(
        f"a machine's state is shown in a one-dimensional Box, a Discrete or a Dict space, and not in {space}; wrap "
        "the environment so that it observes a Dict"
    )
