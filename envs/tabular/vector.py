"""Many tabular worlds at once, as a BatchEnv: tables, gathers and the counter-based stream."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from ..batch import BatchEnv, check_actions, check_like, check_reset_mask
from ..grid.stream import check_seed, fresh_seed
from .draws import episode_keys, lane_keys, uniform
from .scene import Scene, draw
from .single import check_render_mode, cumulative, shorter


class KeyedBatch(BatchEnv):
    """A batch whose lanes are keyed by (seed, lane, episode): resets, ends, frames and state, for a world's ``_move``.

    A subclass keeps its state in tensors ``[N, ...]`` in the dict ``_s`` and defines ``_begin``, ``_move``,
    ``_observe``, ``_facts``, ``_pictures`` and ``_texts``. Draw number c of a lane's
    episode is ``uniform(self._key, c)``.
    """

    exact_state = True

    def __init__(self, num_envs: int, observation: Any, action: Any, **kwargs: Any) -> None:
        super().__init__(num_envs, observation, action, **kwargs)
        self.metadata = {**self.metadata, "render_modes": ["ansi", "rgb_array"], "render_fps": 8}
        check_render_mode(self.render_mode, self.metadata)
        zero = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._lanes, self._key, self._episode, self._t = zero, zero, zero, zero
        self._s: dict[str, Tensor] = {}
        self._begun = False

    def _begin(self) -> dict[str, Tensor]:
        """First states of the episodes ``self._episode`` with the keys ``self._key``, for all lanes."""
        raise NotImplementedError

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The next state, reward float32 ``[N]`` and terminated bool ``[N]`` of step ``self._t``; changes nothing."""
        raise NotImplementedError

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        """uint8 ``[N, H, W, 3]``."""
        raise NotImplementedError

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin episodes in all lanes, or in ``options["reset_mask"]``: the first of a seed, or else the next."""
        mask = (options or {}).get("reset_mask")
        if mask is None:
            rows = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        else:
            rows = torch.from_numpy(check_reset_mask(mask, self.num_envs)).to(self.device)
            if not self._begun and not bool(rows.all()):
                raise ValueError("the first reset is of all lanes: leave reset_mask out")
        if seed is not None or not self._begun:
            fresh = lane_keys(fresh_seed() if seed is None else check_seed(seed), self.num_envs, self.device)
            self._lanes = torch.where(rows, fresh, self._lanes)
            self._episode = torch.where(rows, 0, self._episode)
        else:
            self._episode = self._episode + rows
        self._restart(rows)
        self._begun = True
        return self.observe()

    def _restart(self, rows: Tensor) -> None:
        self._key = torch.where(rows, episode_keys(self._lanes, self._episode), self._key)
        self._t = torch.where(rows, 0, self._t)
        first = self._begin()
        old = self._s or first
        self._s = {name: torch.where(_like(rows, value), value, old[name]) for name, value in first.items()}

    def observe(self) -> tuple[Tensor, dict[str, Any]]:
        """The present observation and ``info``, without a step."""
        if not self._begun:
            raise RuntimeError("there is nothing to observe before the first reset()")
        info: dict[str, Any] = {"facts": self._facts(self._s)}
        self._add_frames(info, None, None)
        return self._observe(self._s), info

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane once; lanes whose episode ends begin the next one.

        Raises:
            ValueError: An action is not in the space; nothing has changed then.
            RuntimeError: There was no reset.
        """
        if not self._begun:
            raise RuntimeError("call reset() before the first step()")
        actions = check_actions(self.single_action_space, actions, self.num_envs, self.device)
        state, reward, terminated = self._move(actions)
        self._s, self._t = state, self._t + 1
        truncated = torch.zeros_like(terminated)
        if self.max_steps is not None:
            truncated = (self._t >= self.max_steps) & ~terminated
        done = terminated | truncated
        obs, facts = self._observe(state), self._facts(state)
        info: dict[str, Any] = {"final_obs": obs, "_final_obs": done, "final_facts": facts}
        # Asking whether any lane ended costs a GPU a synchronisation, and a CPU next to nothing.
        if self.device.type != "cpu" or bool(done.any()):
            self._episode = self._episode + done
            self._restart(done)
            obs, facts = self._observe(self._s), self._facts(self._s)
        info["facts"] = facts
        self._add_frames(info, state, done)
        return obs, reward, terminated, truncated, info

    def _add_frames(self, info: dict[str, Any], final: dict[str, Tensor] | None, done: Tensor | None) -> None:
        if not self._frame_every:
            return
        info["frame"], info["_frame"] = self._pictures(self._s), self._t % self._frame_every == 0
        if final is not None and done is not None:
            info["final_frame"], info["_final_frame"] = self._pictures(final), done

    def state_dict(self) -> dict[str, Any]:
        """Keys, counters and states of all lanes."""
        own = {"lanes": self._lanes, "key": self._key, "episode": self._episode, "t": self._t}
        tensors = {name: value.clone() for name, value in {**own, **self._s}.items()}
        return {"begun": self._begun, **tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        if not self._begun and isinstance(state, Mapping) and state.get("begun") is True:
            self._key = episode_keys(self._lanes, self._episode)
            self._s = self._begin()  # for the names and shapes to compare with
        check_like(state, self.state_dict(), type(self).__name__)
        tensors = {name: value.to(self.device).clone() for name, value in state.items() if name != "begun"}
        self._check(tensors)
        self._lanes, self._key = tensors.pop("lanes"), tensors.pop("key")
        self._episode, self._t = tensors.pop("episode"), tensors.pop("t")
        self._s, self._begun = tensors, bool(state["begun"])

    def _check(self, tensors: dict[str, Tensor]) -> None:
        """Raise ValueError where a value is out of range."""

    def render(self) -> tuple[Any, ...] | None:
        """One picture (``rgb_array``) or text (``ansi``) for each lane."""
        if self.render_mode == "rgb_array":
            return tuple(self._pictures(self._s).cpu().numpy())
        return tuple(self._texts(self._s)) if self.render_mode == "ansi" else None


class TabularBatch(KeyedBatch):
    """N copies of a ``Scene`` that step together; ``scene`` has the exact MDP.

    Observations are int64 ``[N]``, the number of the state. ``info["facts"]`` has ``state``, ``events`` bool ``[N, P]``
    (columns ``scene.propositions``), ``success`` and the world's own facts.

    Args:
        scene: The world.
        num_envs: N.
        device: Where the tables live.
        max_episode_steps: Truncate after so many steps, where that is before the world's own cap.
        render_mode: ``"ansi"``, ``"rgb_array"`` or None.
    """

    def __init__(
        self,
        scene: Scene,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs, spaces.Discrete(scene.mdp.states), spaces.Discrete(scene.mdp.actions), device=device,
            max_steps=shorter(scene.max_steps, max_episode_steps), render_mode=render_mode,
        )  # fmt: skip
        self.scene = scene
        mdp = scene.mdp.sparse()
        assert mdp.successors is not None
        width = mdp.successors.shape[-1]
        # The bounds are summed on the CPU by NumPy, so that every device compares with the same bits.
        bounds = torch.from_numpy(cumulative(mdp.prob.cpu().numpy()))
        self._next = mdp.successors.reshape(-1, width).to(self.device)
        self._reward = mdp.reward.reshape(-1, width).to(self.device, torch.float32)
        self._bounds = bounds.reshape(-1, width).to(self.device)
        self._start = torch.from_numpy(cumulative(mdp.start.cpu().numpy())).to(self.device)
        self._only = int(mdp.start.argmax()) if float(mdp.start.max()) == 1.0 else None
        self._turns = None if scene.turns is None else scene.turns.to(self.device)
        self._terminal = mdp.terminal.to(self.device)
        self._tables = {name: table.to(self.device) for name, table in scene.fact_tables().items()}
        self._background = torch.from_numpy(scene.background()).to(self.device)
        self._places = scene.places().to(self.device)

    def _begin(self) -> dict[str, Tensor]:
        if self._turns is not None:
            return {"state": self._turns[self._episode % len(self._turns)]}
        if self._only is not None:
            return {"state": torch.full_like(self._episode, self._only)}
        first = torch.searchsorted(self._start, uniform(self._key, torch.ones_like(self._t)), right=True)
        return {"state": first}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        row = self._s["state"] * self.scene.mdp.actions + actions
        if self._next.shape[1] == 1:
            return self._arrive(self._next[row, 0], self._reward[row, 0])
        # Draw 1 was the start's.
        draws = uniform(self._key, self._t + 2)
        pick = torch.searchsorted(self._bounds[row], draws[:, None], right=True)
        return self._arrive(self._next[row].gather(1, pick)[:, 0], self._reward[row].gather(1, pick)[:, 0])

    def _arrive(self, state: Tensor, reward: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return {"state": state}, reward, self._terminal[state]

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        return state["state"]

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: table[state["state"]] for name, table in self._tables.items()}

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        return draw(self._background, self._places[state["state"]])

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        return [self.scene.text(s) for s in state["state"].tolist()]

    def _check(self, tensors: dict[str, Tensor]) -> None:
        state = tensors.get("state")
        if state is not None and bool(((state < 0) | (state >= self.scene.mdp.states)).any()):
            raise ValueError(f"TabularBatch: the saved states go beyond the world's {self.scene.mdp.states}")


def _like(rows: Tensor, value: Tensor) -> Tensor:
    """``rows [N]`` with as many axes as ``value [N, ...]``."""
    return rows.reshape(-1, *[1] * (value.ndim - 1))
