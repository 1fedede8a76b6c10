"""A team as a PettingZoo parallel environment, and PettingZoo's ids of Cairn's own worlds."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ..batch import BatchEnv
from .team import require_team

try:
    from pettingzoo import ParallelEnv
except ImportError as error:  # pragma: no cover
    raise ImportError("PettingZoo environments need the extra: pip install 'cairn-rl[multi]'") from error


def parallel_env(name: str, *, render_mode: str | None = None, **kwargs: Any) -> "ParallelTeam":
    """Make one of Cairn's worlds for many agents as a PettingZoo parallel environment.

    Args:
        name: One of its ids (``"cairn/Gems-v0"``).
        render_mode: ``"rgb_array"``, ``"ansi"`` or None.
        kwargs: Arguments of the world.

    Raises:
        TypeError: The id is not that of a team.
    """
    made: Any = gym.make_vec(name, num_envs=1, render_mode=render_mode, **kwargs)
    return as_parallel(made)


def as_parallel(env: BatchEnv) -> "ParallelTeam":
    """See a batch of one team as a PettingZoo parallel environment.

    Args:
        env: A team with one lane; wrapped or not.

    Raises:
        TypeError: ``env`` is no team.
        ValueError: It has more than one lane.
    """
    return ParallelTeam(env)


class ParallelTeam(ParallelEnv):  # type: ignore[misc]
    """One team of a ``TeamEnv`` in PettingZoo's parallel form; ``as_parallel`` makes it.

    Every agent's info has the world's facts. With ``render_mode="rgb_array"`` the picture is that of the state the last
    step led to, an episode's last one included.
    """

    def __init__(self, env: BatchEnv) -> None:
        self.team = require_team(env, "as_parallel")
        if env.num_envs != 1:
            raise ValueError(f"a PettingZoo environment is one team, and this batch has {env.num_envs}")
        self.batch, self.render_mode = env, env.render_mode
        self.possible_agents = list(self.team.agents)
        self.agents: list[str] = []
        spec = getattr(env.unwrapped, "spec", None)
        name = type(env.unwrapped).__name__ if spec is None else spec.id
        modes = list(env.metadata.get("render_modes", []))
        self.metadata = {"name": name, "render_modes": modes, "render_fps": 8, "is_parallelizable": True}
        self.observation_spaces = dict.fromkeys(self.possible_agents, self.team.agent_observation_space)
        self.action_spaces = dict.fromkeys(self.possible_agents, self.team.agent_action_space)
        self.state_space = self.team.single_observation_space
        self._frame: Any = None
        self._fresh = False  # the batch has begun its next episode by itself
        if self.render_mode == "rgb_array":
            env.frame_every = 1

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """What an agent observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        """What an agent can do."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; options are not used."""
        obs, info = self.batch.observe() if self._fresh and seed is None else self.batch.reset(seed=seed)
        self._fresh = False
        alive = info["alive"][0].tolist() if "alive" in info else [True] * len(self.possible_agents)
        self.agents = [name for name, there in zip(self.possible_agents, alive) if there]
        self._frame = info.get("frame")
        self._state = obs[0].cpu().numpy()
        facts = {name: value[0].cpu().numpy() for name, value in info.get("facts", {}).items()}
        rows = dict(zip(self.possible_agents, self._state))
        return {name: rows[name] for name in self.agents}, {name: {"facts": facts} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Let every agent that is there act.

        Raises:
            ValueError: An agent's action is missing, or is none of its actions.
        """
        acting = list(self.agents)
        if not acting:
            return {}, {}, {}, {}, {}
        missing = [name for name in acting if name not in actions]
        if missing:
            raise ValueError(f"step needs an action of every agent that is there, and {', '.join(missing)} have none")
        space = self.team.agent_action_space
        idle = np.zeros(space.shape or (), getattr(space, "dtype", np.int64)) + getattr(space, "start", 0)
        both = [np.asarray(actions[name] if name in acting else idle) for name in self.possible_agents]
        _, reward, terminated, truncated, info = self.batch.step(torch.from_numpy(np.stack(both))[None])
        done = bool(info["_final_obs"])
        if self.team.agents_leave:
            left = {k: info[f"agent_{k}"][0].tolist() for k in ("terminated", "truncated")}
        else:
            ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
            left = {k: [end] * len(self.possible_agents) for k, end in ends.items()}
        self._fresh = done
        if "frame" in info:
            self._frame = info["final_frame"] if done else info["frame"]
        self._state = info["final_obs"][0].cpu().numpy()  # where this step led to, ended or not
        facts = {name: value[0].cpu().numpy() for name, value in info.get("final_facts", {}).items()}

        def each(values: Any) -> dict[str, Any]:
            return {name: value for name, value in zip(self.possible_agents, values) if name in acting}

        over, cut = each(left["terminated"]), each(left["truncated"])
        self.agents = [] if done else [name for name in acting if not (over[name] or cut[name])]
        return each(self._state), each(reward[0].tolist()), over, cut, {name: {"facts": facts} for name in acting}

    def state(self) -> Any:
        """What all agents observe, NumPy ``[A, ...]``."""
        return self._state

    def render(self) -> Any:
        """A picture uint8 ``[H, W, 3]``, or text."""
        if self.render_mode == "rgb_array":
            return None if self._frame is None else self._frame[0].cpu().numpy()
        shown = self.batch.render()
        return None if shown is None else shown[0]

    def close(self) -> None:
        """Close the batch."""
        self.batch.close()
