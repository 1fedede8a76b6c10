"""PettingZoo's parallel environments as a ``TeamEnv``."""

import secrets
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..batch import check_actions, check_reset_mask, lane_seed
from ..spaces import declare, torch_dtype
from .team import TeamEnv, joint_space


def from_pettingzoo(
    make: Callable[..., Any], num_envs: int = 1, *, device: torch.device | str = "cpu", pad: bool = False, **kwargs: Any
) -> "PettingZooBatch":
    """Batch N parallel environments of PettingZoo, stepping one after the other in this process.

    Args:
        make: Makes a new environment at every call (``simple_spread_v3.parallel_env``); an environment itself will do
            for a batch of one.
        num_envs: N.
        device: Where the tensors go.
        pad: Give agents with unequal spaces those of the largest: vectors are filled up with zeros, and numbers of
            actions beyond an agent's own mean its action 0.
        kwargs: Passed to ``make``.

    Raises:
        TypeError: The environment is none of the parallel kind (the message says how to convert it), or has spaces
            that a batch cannot carry.
        ValueError: The agents' spaces differ, or the environments do.
    """
    return PettingZooBatch(make, num_envs, device=device, pad=pad, **kwargs)


class PettingZooBatch(TeamEnv):
    """N parallel environments of PettingZoo; ``from_pettingzoo`` makes it.

    Agents may leave during an episode, and none may come. Episode e of lane i of a seed begins with
    ``reset(seed=...)`` of a hash of the three, so a state is the seed, the episode and its actions: it is restored by
    acting them out again, exactly as far as the environment depends on its seed alone.
    """

    agents_leave = True

    def __init__(
        self,
        make: Callable[..., Any],
        num_envs: int = 1,
        *,
        device: torch.device | str = "cpu",
        pad: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: a batch has at least one environment")
        if hasattr(make, "possible_agents") or hasattr(make, "agent_iter"):
            if num_envs != 1:
                raise TypeError(f"{make} is one environment; for {num_envs} give a function that makes a new one")
            self.teams = [_parallel(make)]
        else:
            self.teams = [_parallel(make(**kwargs)) for _ in range(num_envs)]
        first = self.teams[0]
        agents = tuple(str(name) for name in first.possible_agents)
        self._names = list(first.possible_agents)
        for lane, team in enumerate(self.teams):
            if list(team.possible_agents) != self._names:
                raise ValueError(f"the environment of lane {lane} has other agents than that of lane 0")
        seen = [first.observation_space(name) for name in self._names]
        acts = [first.action_space(name) for name in self._names]
        self._widths, self._choices = [s.shape for s in seen], [int(getattr(s, "n", 0)) for s in acts]
        observation, action = _one_space(seen, "observe", self._names, pad), _one_space(acts, "act", self._names, pad)
        cap = getattr(first.unwrapped, "max_cycles", None)
        joint = joint_space(observation, len(agents)), joint_space(action, len(agents))
        super().__init__(
            num_envs, *joint, device=device, max_steps=cap if isinstance(cap, int) and cap > 0 else None,
            render_mode=getattr(first, "render_mode", None),
        )  # fmt: skip
        self.metadata["render_modes"] = list(first.metadata.get("render_modes", []))
        self.agents, self.agent_observation_space, self.agent_action_space = agents, declare(observation), action
        shape, rows = (num_envs, len(agents)), self.single_observation_space.shape or ()
        self._obs = np.zeros((num_envs, *rows), self.single_observation_space.dtype)
        self._alive = np.zeros(shape, np.bool_)
        self._reward = np.zeros(shape, np.float32)
        self._out = np.zeros((2, *shape), np.bool_)  # terminated, truncated
        self._seeds = [0] * num_envs
        self._episode = np.full(num_envs, -1)
        self._actions: list[list[Any]] = [[] for _ in range(num_envs)]
        self._started, self._exact = False, True

    @property
    def exact_state(self) -> bool:  # type: ignore[override]
        """Whether the last state that was loaded came out as it had been saved."""
        return self._exact

    # ---- living --------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin new episodes, in the lanes of ``options["reset_mask"]`` or in all."""
        mask = (options or {}).get("reset_mask")
        lanes = range(self.num_envs)
        if mask is not None:
            if not self._started:
                raise RuntimeError("the first reset is of all lanes: leave reset_mask out")
            lanes = np.flatnonzero(check_reset_mask(mask, self.num_envs)).tolist()  # type: ignore[assignment]
        if seed is None and not self._started:
            seed = secrets.randbits(62)
        for lane in lanes:
            if seed is not None:
                self._seeds[lane], self._episode[lane] = lane_seed(seed, lane), -1
            self._begin(lane)
        self._started = True
        return self.observe()

    def _begin(self, lane: int, episode: int | None = None) -> None:
        self._episode[lane] = self._episode[lane] + 1 if episode is None else episode
        key = lane_seed(self._seeds[lane], int(self._episode[lane])) & 0x7FFFFFFF  # many worlds take 32 bits
        obs, _ = self.teams[lane].reset(seed=key)
        self._actions[lane] = []
        there = set(self.teams[lane].agents)
        self._alive[lane] = [name in there for name in self._names]
        self._write(lane, obs)

    def _write(self, lane: int, obs: Mapping[Any, Any]) -> None:
        """An agent's last observation is kept where it still gets one; the rows of those long gone are zeros."""
        row = self._obs[lane]
        row[...] = 0
        for a, name in enumerate(self._names):
            if name in obs:
                value = np.asarray(obs[name])
                row[a][tuple(slice(n) for n in value.shape)] = value

    def observe(self) -> tuple[Tensor, dict[str, Any]]:
        """The present observation, and who is there."""
        if not self._started:
            raise RuntimeError("there is nothing to observe before the first reset()")
        info: dict[str, Any] = {"facts": {}, "alive": self._tensor(self._alive)}
        if self._frame_every:
            every = np.array([len(row) % self._frame_every == 0 for row in self._actions])
            info["frame"], info["_frame"] = self._pictures(every)
        return self._tensor(self._obs), info

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once, and reset those that nobody is left in."""
        if not self._started:
            raise RuntimeError("the batch has no episodes yet (or a step failed): call reset() first")
        rows = check_actions(self.single_action_space, actions, self.num_envs).cpu().numpy()
        self._started = False  # until the step is whole
        acted = self._alive.copy()
        self._reward[...], self._out[...] = 0, False
        for lane in range(self.num_envs):
            self._live(lane, rows[lane])
        if not np.isfinite(self._reward).all():
            lane = int(np.flatnonzero(~np.isfinite(self._reward).all(1))[0])
            raise RuntimeError(f"the environment of lane {lane} gave the rewards {self._reward[lane]}")
        ended = ~self._alive.any(1)
        cut = ended & self._out[1].any(1)
        info: dict[str, Any] = {
            "final_obs": self._tensor(self._obs), "_final_obs": self._tensor(ended), "final_facts": {},
            "acted": self._tensor(acted), "agent_terminated": self._tensor(self._out[0]),
            "agent_truncated": self._tensor(self._out[1]),
        }  # fmt: skip
        if self._frame_every:
            info["final_frame"], info["_final_frame"] = self._pictures(ended)
        for lane in np.flatnonzero(ended).tolist():
            self._begin(lane)
        self._started = True
        obs, now = self.observe()
        ends = self._tensor(ended & ~cut), self._tensor(cut)
        return obs, self._tensor(self._reward), *ends, {**info, **now}

    def _live(self, lane: int, row: Any) -> None:
        team, alive = self.teams[lane], self._alive[lane]
        acts = {name: self._own(a, row[a]) for a, name in enumerate(self._names) if alive[a]}
        obs, reward, terminated, truncated, _ = team.step(acts)
        self._actions[lane].append(row.copy())
        after = set(team.agents)
        late = [str(name) for a, name in enumerate(self._names) if name in after and not alive[a]]
        if late:
            raise RuntimeError(
                f"agents appeared in the middle of an episode ({', '.join(late)}): the agent axis is fixed at a reset. "
                "Let them be there from the start and idle, with a wrapper"
            )
        for a, name in enumerate(self._names):
            if alive[a]:
                gone = name not in after
                self._reward[lane, a] = reward.get(name, 0.0)
                self._out[1, lane, a] = gone and bool(truncated.get(name, False)) and not terminated.get(name, False)
                self._out[0, lane, a] = gone and not self._out[1, lane, a]
                alive[a] = not gone
        self._write(lane, obs)

    def _own(self, agent: int, action: Any) -> Any:
        """An agent's action in the type that its own space has."""
        space = self.teams[0].action_space(self._names[agent])
        if isinstance(space, spaces.Discrete):
            number = int(action)
            return number if number - int(space.start) < int(space.n) else int(space.start)
        return np.asarray(action, space.dtype)[tuple(slice(n) for n in space.shape)]

    def _tensor(self, array: Any) -> Tensor:
        dtype = torch_dtype(self.single_observation_space) if array is self._obs else None
        return torch.tensor(array, dtype=dtype, device=self.device)

    def _pictures(self, lanes: Any) -> tuple[Tensor, Tensor]:
        some = {int(lane): np.asarray(self.teams[lane].render()) for lane in np.flatnonzero(lanes)}
        if some:
            self._frame_shape = next(iter(some.values())).shape
        frames = np.zeros((self.num_envs, *getattr(self, "_frame_shape", (0, 0, 3))), np.uint8)
        for lane, frame in some.items():
            frames[lane] = frame
        return self._tensor(frames), self._tensor(np.asarray(lanes))

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane."""
        return tuple(team.render() for team in self.teams)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        for team in self.teams:
            team.close()

    # ---- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Seeds, episodes and the actions since each episode's start, and the present observations to compare with."""
        space = self.single_action_space
        none = np.zeros((0, *(space.shape or ())), space.dtype)
        return {
            "started": self._started,
            "seeds": list(self._seeds),
            "episode": torch.from_numpy(self._episode.copy()),
            "actions": [torch.from_numpy(np.stack(row) if row else none) for row in self._actions],
            "obs": torch.from_numpy(self._obs.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Act the saved episodes out again; where that leads elsewhere, warn, and begin new ones."""
        names = {"started", "seeds", "episode", "actions", "obs"}
        if not isinstance(state, Mapping) or set(state) != names or len(state["seeds"]) != self.num_envs:
            raise ValueError(f"this is not the state of {self.num_envs} PettingZoo environments")
        if tuple(state["obs"].shape) != self._obs.shape or state["episode"].shape != (self.num_envs,):
            raise ValueError("the saved state is of other environments: their observations have another shape")
        self._seeds, self._started = [int(seed) for seed in state["seeds"]], bool(state["started"])
        if not self._started:
            return
        for lane in range(self.num_envs):
            self._begin(lane, int(state["episode"][lane]))
            for row in state["actions"][lane].cpu().numpy():
                self._live(lane, row)
        self._exact = bool(np.array_equal(self._obs, state["obs"].cpu().numpy(), equal_nan=True))
        if not self._exact:
            warnings.warn(
                "the environments did not come back to where they were saved (they depend on more than their seed): "
                "new episodes begin, and a resumed run is not the same run",
                stacklevel=2,
            )
            for lane in range(self.num_envs):
                self._begin(lane)


def _parallel(env: Any) -> Any:
    """Return a parallel environment as it is.

    Raises:
        TypeError: It is something else.
    """
    if hasattr(env, "agent_iter") or (hasattr(env, "last") and hasattr(env, "agent_selection")):
        raise TypeError(
            f"{env} is an AEC environment, whose agents act in turn, and a team acts at once: where their order does "
            "not matter, give pettingzoo.utils.conversions.aec_to_parallel(env), or the world's own parallel_env "
            "(games of turns: turn_based_aec_to_parallel)"
        )
    if not hasattr(env, "possible_agents") or not hasattr(env, "observation_space"):
        raise TypeError(
            f"{type(env).__name__} is no PettingZoo parallel environment, or does not say its possible_agents, which "
            "fix the agent axis"
        )
    return env


def _one_space(own: list[gym.Space[Any]], does: str, names: list[Any], pad: bool) -> gym.Space[Any]:
    """The space of all agents, which must be one unless it may be padded."""
    if all(space == own[0] for space in own):
        return own[0]
    alike = {type(space) for space in own} == {spaces.Discrete}
    flat = all(isinstance(space, spaces.Box) and len(space.shape) == 1 for space in own)
    if not pad or not (alike or flat):
        told = "; ".join(f"{name}: {space}" for name, space in zip(names, own))
        hint = "pass pad=True" if alike or flat else "bring them into one form with a wrapper"
        raise ValueError(f"the agents {does} in different spaces ({told}), and the agent axis needs one: {hint}")
    if alike:
        return spaces.Discrete(max(int(getattr(space, "n", 0)) for space in own))
    width = max(space.shape[0] for space in own if space.shape is not None)
    low, high = np.zeros(width), np.zeros(width)
    for space in own:
        assert isinstance(space, spaces.Box)
        n = space.shape[0]
        low[:n], high[:n] = np.minimum(low[:n], space.low), np.maximum(high[:n], space.high)
    return spaces.Box(low.astype(np.float32), high.astype(np.float32))
