"""A team seen as that many lanes: every single-agent learner with shared parameters can then train on it."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ..batch import BatchEnv, BatchWrapper, check_reset_mask
from ..spaces import Tree
from .team import require_team


def agent_view(obs: Tensor, *, ids: bool = False, state: bool = False) -> Tree:
    """What the agents of teams that observe ``[B, A, ...]`` are shown, each in its own row ``[B * A, ...]``.

    Args:
        obs: The observations.
        ids: See ``AgentLanes``.
        state: See ``AgentLanes``.
    """
    own, (teams, members) = obs.flatten(0, 1), obs.shape[:2]
    if not (ids or state):
        return own
    who = torch.eye(members, device=obs.device).repeat(teams, 1)
    seen = torch.cat([own, who], 1) if ids else own
    if not state:
        return seen
    whole = obs.flatten(1).float().repeat_interleave(members, 0)
    return {"obs": seen, "state": torch.cat([whole, who], 1)}


class AgentLanes(BatchWrapper):
    """N teams of A agents as N * A lanes, lane ``n * A + a`` being agent a of team n.

    A lane's episode ends when its agent leaves; what follows until the team's next episode are rows with
    ``info["valid"]`` False, which learners leave out.

    Args:
        env: The team.
        ids: Append a one-hot of the agent's number to observations that are vectors, so that one network can play
            different parts.
        state: Observations become ``{"obs": own, "state": [S]}``: all agents' observations in a row, followed by the
            one-hot. That is what a centralised critic is shown.

    Raises:
        TypeError: ``env`` is no team.
        ValueError: ``ids`` or ``state`` with observations that are no vectors.
    """

    def __init__(self, env: BatchEnv, *, ids: bool = False, state: bool = False) -> None:
        super().__init__(env)
        self.team = require_team(env, "AgentLanes")
        self.members, self.ids, self.state = len(self.team.agents), ids, state
        own, n = self.team.agent_observation_space, env.num_envs
        self.num_envs = n * self.members
        self.always_valid = not self.team.agents_leave
        if (ids or state) and not (isinstance(own, spaces.Box) and len(own.shape) == 1):
            raise ValueError(
                f"agents' numbers and the joint state are appended to vectors, and these agents observe {own}: flatten "
                "the observations, or leave ids and state out"
            )
        self.single_observation_space = own
        if ids and isinstance(own, spaces.Box):
            low, high = (np.concatenate([b, np.full(self.members, v)]) for b, v in ((own.low, 0), (own.high, 1)))
            self.single_observation_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        if state:
            size = self.members * (own.shape[0] + 1)  # type: ignore[index]
            whole = spaces.Box(-np.inf, np.inf, (size,), np.float32)
            self.single_observation_space = spaces.Dict({"obs": self.single_observation_space, "state": whole})
        self.single_action_space = self.team.agent_action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes of whole teams; a ``reset_mask`` of the lanes names all agents of a team or none."""
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            teams = torch.from_numpy(check_reset_mask(mask, self.num_envs)).view(-1, self.members)
            if not torch.equal(teams.any(1), teams.all(1)):
                raise ValueError("the agents of a team begin together: reset_mask has part of a team")
            options = {**(options or {}), "reset_mask": teams.all(1)}
        obs, info = self.env.reset(seed=seed, options=options)
        return self._observe(obs), self._info(info)

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observations, without a step."""
        obs, info = self.env.observe()
        return self._observe(obs), self._info(info)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every team once."""
        actions = torch.as_tensor(actions, device=self.device)
        shape = (self.num_envs, *(self.single_action_space.shape or ()))
        if tuple(actions.shape) != shape:
            raise ValueError(f"actions of shape {tuple(actions.shape)}, and {self.num_envs} agents want {shape}")
        obs, reward, terminated, truncated, info = self.env.step(actions.reshape(-1, self.members, *shape[1:]))
        if self.team.agents_leave:
            ends = info["agent_terminated"].flatten(), info["agent_truncated"].flatten()
        else:
            ends = self._each(terminated), self._each(truncated)
        out = self._info(info)
        out["final_obs"] = self._observe(info["final_obs"])
        out["_final_obs"] = ends[0] | ends[1]
        if self.team.agents_leave:
            out["valid"] = info["acted"].flatten()
        return self._observe(obs), reward.flatten(), *ends, out

    def _each(self, row: Tensor) -> Tensor:
        """``[N, ...]`` for every agent of a team, ``[N * A, ...]``."""
        return row.repeat_interleave(self.members, 0)

    def _observe(self, obs: Tensor) -> Tree:
        return agent_view(obs, ids=self.ids, state=self.state)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in ("facts", "final_facts"):
            if name in info:
                out[name] = {
                    key: fact.flatten(0, 1) if key in self.team.agent_facts else self._each(fact)
                    for key, fact in info[name].items()
                }
        for name in ("frame", "_frame", "final_frame", "_final_frame"):
            if name in info:
                out[name] = self._each(info[name])
        return out

    def encode(self, obs: Any) -> Any:
        """Turn observations of one team, or of a list of teams, into a batch of lanes."""
        return self._observe(self.env.encode(obs))
