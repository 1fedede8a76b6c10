"""The arm repertoire: ten joint angles at once, for archives of all the places that a hand can reach."""

from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .base import AreaBatch
from .pictures import GREY, Shapes

JOINTS = 10


class RepertoireBatch(AreaBatch):
    """N planar arms with links of 1 m; an episode is one step.

    The action float32 ``[joints]`` in -pi to pi is the angle from each link to the next, the first one's from the x
    axis. The reward is ``100 (1 - variance of the angles)``, the outcome where the hand is. The observation is nothing:
    one zero. ``facts`` has ``angles`` too, the features of learned descriptors.

    Source: the arm of Ding et al., "Quality Diversity through Human Feedback" (ICML 2024), and of pyribs' tutorials,
    after Cully and Demiris, "Quality and Diversity Optimization: A Unifying Modular Framework" (2018).

    Args:
        num_envs: N.
        joints: How many links.
        kwargs: As for ``AreaBatch``: ``device``, ``max_episode_steps``, ``render_mode``, ``pixels``.
    """

    def __init__(self, num_envs: int, joints: int = JOINTS, **kwargs: Any) -> None:
        if isinstance(joints, bool) or not isinstance(joints, int) or not 1 <= joints <= 1000:
            raise ValueError(f"joints={joints!r}: an arm has 1 to 1000 joints")
        nothing = spaces.Box(0.0, 0.0, (1,), np.float32)
        angles = spaces.Box(-pi, pi, (joints,), np.float32)
        reach = float(joints)
        super().__init__(num_envs, nothing, angles, steps=1, bounds=((-reach, -reach), (reach, reach)), **kwargs)
        self.count = joints

    def joints(self, angles: Tensor) -> Tensor:
        """Where the ends of links are, ``[N, joints + 1, 2]``, at angles ``[N, joints]``."""
        turned = angles.cumsum(-1)
        ends = torch.stack([turned.cos(), turned.sin()], -1).cumsum(1)
        return torch.cat([torch.zeros_like(ends[:, :1]), ends], 1)

    def _begin(self) -> dict[str, Tensor]:
        angles = torch.zeros(self.num_envs, self.count, device=self.device)
        return {"angles": angles, "hand": self.joints(angles)[:, -1], "obs": torch.zeros_like(angles[:, :1])}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        state = {"angles": actions, "hand": self.joints(actions)[:, -1], "obs": self._s["obs"]}
        reward = 100.0 * (1.0 - actions.var(-1, correction=0))
        return state, reward, torch.ones(self.num_envs, dtype=torch.bool, device=self.device)

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        return state["hand"]

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"descriptor": state["hand"], "angles": state["angles"]}

    def _scenery(self) -> Shapes:
        return Shapes(torch.zeros(1, 0, 4, device=self.device))

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        joints = self.joints(state["angles"])
        hand = torch.cat([joints[:, -1:], torch.full_like(joints[:, -1:, :1], 0.02 * self.count)], -1)
        return Shapes(torch.cat([joints[:, :-1], joints[:, 1:]], -1), 0.008 * self.count, GREY, hand)
