"""N Gymnasium environments in one process as a BatchEnv."""

import secrets
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from . import replay_record
from .batch import BatchEnv, check_actions, check_reset_mask, lane_seed
from .replay_record import RECORD_LIMIT
from .single_env import (
    episode_cap,
    forms,
    is_minigrid,
    minigrid_facts,
    sample_action,
    seeded_copy,
    single_space,
    writers,
)
from .spaces import encode_numpy, numpy_dtype, tree_leaves, tree_map, zeros

Facts = Callable[[Any], Mapping[str, Any]]
FORMAT = "gymnasium-replay-1"


class GymnasiumBatch(BatchEnv):
    """N environments of Gymnasium that step one after the other; ``from_gymnasium`` makes it.

    Lane i is reset with ``lane_seed(seed, i)`` and its later episodes go on from its own generator; an environment
    with ``keyed = True`` gets ``reset(seed=seed, options={"lane": i})`` instead, and then ``reset()``.

    Args:
        make: Makes the environment of a lane.
        num_envs: N.
        device: Where the tensors go.
        facts: Function of the unwrapped environment to a dict of numbers and arrays, after every reset and step. Left
            out, they are those in ``info["facts"]`` where an environment gives such (``MachineEnv`` does); MiniGrid's
            are ``minigrid_facts``, and other environments have none but ``success``.

    Raises:
        ValueError: The environments differ, or ``make`` gave the same one twice, or facts change their form.
    """

    def __init__(
        self,
        make: Callable[[int], gym.Env[Any, Any]],
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        facts: Facts | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: a batch has at least one environment")
        self._make = make
        self.envs: list[gym.Env[Any, Any]] = [make(lane) for lane in range(num_envs)]
        if len({id(env.unwrapped) for env in self.envs}) != num_envs:
            raise ValueError(
                "the function gave the same environment twice, and lanes would overwrite each other; "
                "it must make a new one at every call"
            )
        first = self.envs[0]
        single = single_space(first)
        for lane, env in enumerate(self.envs):
            if single_space(env) != single or env.action_space != first.action_space:
                raise ValueError(
                    f"the environment of lane {lane} has other spaces than that of lane 0: {env.observation_space}, "
                    f"{env.action_space}; a batch needs equal spaces"
                )
        super().__init__(
            num_envs,
            single,
            first.action_space,
            device=device,
            max_steps=episode_cap(first),
            render_mode=first.render_mode,
        )
        self.keyed = replay_record.is_keyed(first)
        self._minigrid = is_minigrid(first)
        self._told = facts is None  # the environment tells its facts itself, if it does
        self._facts_of = facts if facts is not None else minigrid_facts if self._minigrid else None
        self._obs = tree_map(Tensor.numpy, zeros(single, (num_envs,)))
        self._reward = np.zeros(num_envs, np.float32)
        self._terminated, self._truncated = np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.bool_)
        self._leaves = list(writers(first.observation_space, single, self._obs))
        self._facts = self._type_facts()
        self._origins: list[dict[str, Any]] = [{} for _ in self.envs]
        self._actions: list[list[Any]] = [[] for _ in self.envs]
        self._age = np.zeros(num_envs, np.int64)  # steps since the lane's reset
        self._started = False
        self._exact: bool | None = None

    def _type_facts(self) -> dict[str, np.ndarray[Any, Any]]:
        """Fix names, shapes and dtypes of the facts, on one reset and one step of lane 0."""
        env = self.envs[0]
        obs, info = env.reset(seed=0)
        encode_numpy(self.single_observation_space, obs, "the environment's observation")
        self._told = self._told and isinstance(info.get("facts"), Mapping)
        if self._told:
            first = dict(info["facts"])
        else:
            first = dict(self._facts_of(env.unwrapped)) if self._facts_of is not None else {}
        self._success_key: str | None = None
        if "success" not in first:
            if self._minigrid and not self._told:
                first["success"] = False
            else:
                info = {**info, **env.step(sample_action(seeded_copy(env.action_space)))[4]}
                self._success_key = next((key for key in ("is_success", "success") if key in info), None)
                if self._success_key is not None:
                    first["success"] = False
        self._own_success = (
            self._minigrid and "success" in first and self._facts_of is minigrid_facts and not self._told
        )
        buffers = {}
        for name, value in first.items():
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise ValueError(f"the fact {name!r} is a number or an array of numbers, and got {value!r}")
            dtype = {"b": np.bool_, "f": np.float32}.get(array.dtype.kind, np.int64)
            buffers[name] = np.zeros((self.num_envs, *array.shape), dtype)
        return buffers

    @property
    def exact_state(self) -> bool:  # type: ignore[override]
        """Whether replay restores the environments; tried once on two fresh copies, and False after a failed load."""
        if self._exact is None:
            self._exact = self.render_mode == "human" or replay_record.can_replay(self._make)
        return self._exact

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, in the lanes of ``options["reset_mask"]`` or in all."""
        passed = dict(options or {})
        mask = passed.pop("reset_mask", None)
        lanes = range(self.num_envs)
        if mask is not None:
            if not self._started:
                raise RuntimeError("the first reset is of all lanes: call reset() without a reset_mask first")
            lanes = np.flatnonzero(check_reset_mask(mask, self.num_envs)).tolist()  # type: ignore[assignment]
        if seed is None and not self._started:
            seed = secrets.randbits(63)
        if seed is not None:
            lane_seed(seed, 0)  # a wrong seed is refused before any lane is reset
        for lane in lanes:
            self._begin(lane, seed, passed or None)
        self._started = True
        return self._present(), self._info(np.asarray(lanes, np.int64))

    def _begin(self, lane: int, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        own_seed = lane_seed(seed, lane) if seed is not None else None
        env = self.envs[lane]
        obs, info, self._origins[lane] = replay_record.begin(env, lane, seed, own_seed, options)
        self._actions[lane] = []
        self._age[lane] = 0
        self._write(lane, obs)
        self._write_facts(lane, info, False)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once, and reset those whose episode ended."""
        if not self._started:
            raise RuntimeError("the batch has no episodes yet (or a step failed): call reset() first")
        rows = self._rows(check_actions(self.single_action_space, actions, self.num_envs))
        self._started = False  # until the step is whole: an exception of one lane leaves the others ahead of it
        reward, terminated, truncated = self._reward, self._terminated, self._truncated
        for lane, (env, action) in enumerate(zip(self.envs, rows)):
            obs, reward[lane], terminated[lane], truncated[lane], info = env.step(action)
            self._write(lane, obs)
            self._write_facts(lane, info, bool(terminated[lane] and reward[lane] > 0))
            record = self._actions[lane]
            if len(record) <= RECORD_LIMIT:
                record.append(action)
        if not np.isfinite(reward).all():
            lane = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise RuntimeError(
                f"the environment of lane {lane} gave the reward {reward[lane]}: no agent learns from that"
            )
        self._age += 1
        ended = terminated | truncated
        info = {}
        obs, facts = self._present(), self._copy(self._facts)
        info.update(final_obs=obs, _final_obs=self._tensor(ended), final_facts=facts)
        lanes = np.flatnonzero(ended)
        if lanes.size:
            if self._frame_every:
                info["final_frame"], info["_final_frame"] = self._pictures(lanes)
            for lane in lanes.tolist():
                self._begin(lane)
            obs = self._present()
        elif self._frame_every:
            info["final_frame"], info["_final_frame"] = self._pictures(lanes)
        info.update(self._info(np.flatnonzero(self._age % max(self._frame_every, 1) == 0)))
        self._started = True
        return obs, self._tensor(reward), self._tensor(terminated), self._tensor(truncated), info

    def _rows(self, actions: Tensor) -> list[Any]:
        """One action for each lane, in the type that the single environment takes."""
        array = actions.cpu().numpy()
        if isinstance(self.single_action_space, spaces.Discrete):
            return list(array.tolist())
        return list(array.astype(self.single_action_space.dtype, copy=True))

    def _write(self, lane: int, obs: Any) -> None:
        for path, buffer, text in self._leaves:
            value = obs
            for name in path:
                value = value[name]
            buffer[lane] = value if text is None else text(value)

    def _write_facts(self, lane: int, info: Mapping[str, Any], won: bool) -> None:
        buffers = self._facts
        if self._told or self._facts_of is not None:
            facts: Any = None
            try:
                told = self._told or self._facts_of is None
                facts = info["facts"] if told else self._facts_of(self.envs[lane].unwrapped)  # type: ignore[misc]
                for name, value in facts.items():
                    buffers[name][lane] = value
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"facts changed their form: first {forms(buffers)}, and now {facts!r}") from error
        if self._own_success:
            buffers["success"][lane] = won
        elif self._success_key is not None:
            buffers["success"][lane] = bool(info.get(self._success_key, False))

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)

    def _copy(self, tree: Any) -> Any:
        return tree_map(self._tensor, tree)

    def _present(self) -> Any:
        return self._copy(self._obs)

    def _info(self, framed: np.ndarray[Any, Any]) -> dict[str, Any]:
        """The facts now, and frames of the lanes ``framed`` where frames are asked for."""
        info: dict[str, Any] = {"facts": self._copy(self._facts)}
        if self._frame_every:
            info["frame"], info["_frame"] = self._pictures(framed)
        return info

    def _pictures(self, lanes: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """Frames uint8 [N, H, W, 3] of some lanes, and the mask of these."""
        mask = np.zeros(self.num_envs, np.bool_)
        mask[lanes] = True
        some = {lane: np.asarray(self.envs[lane].render()) for lane in lanes.tolist()}
        if some:
            self._frame_shape = next(iter(some.values())).shape
        frames = np.zeros((self.num_envs, *getattr(self, "_frame_shape", (0, 0, 3))), np.uint8)
        for lane, frame in some.items():
            frames[lane] = frame
        return torch.from_numpy(frames).to(self.device), torch.from_numpy(mask).to(self.device)

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation, and ``info`` with its facts."""
        if not self._started:
            raise RuntimeError("the batch has no episodes yet: call reset() first")
        return self._present(), {"facts": self._copy(self._facts)}

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def state_dict(self) -> dict[str, Any]:
        """For each lane where its episode began, the actions since, and where that led."""
        if not self._started:
            return {"format": FORMAT, "num_envs": self.num_envs, "lanes": [], "actions": None, "obs": None}
        lanes: list[dict[str, Any]] = []
        rows: list[Any] = []
        for origin, actions, env in zip(self._origins, self._actions, self.envs):
            whole = len(actions) <= self._most_actions and "not plain" not in (origin["options"] or {})
            rows += actions if whole else []
            record = {"origin": origin, "actions": len(actions) if whole else 0, "whole": whole}
            lanes.append({**record, "random": replay_record.random_state(env)})
        space = self.single_action_space
        return {
            "format": FORMAT,
            "num_envs": self.num_envs,
            "lanes": lanes,
            "actions": np.array(rows, numpy_dtype(space)).reshape(-1, *(space.shape or ())),  # all lanes', end to end
            "obs": tree_map(lambda array: torch.from_numpy(array.copy()), self._obs),
        }

    @property
    def _most_actions(self) -> int:
        return self.max_steps if self.max_steps is not None else RECORD_LIMIT

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Live the recorded episodes again, and verify where they lead.

        A lane that ends up elsewhere begins a new episode; then ``exact_state`` is False, and a warning says so.

        Raises:
            ValueError: The state is malformed or of another batch; nothing has changed then.
        """
        self._check_state(state)
        if not state["lanes"]:
            self._started = False
            return
        saved = tree_map(np.asarray, state["obs"])
        actions = np.asarray(state["actions"]).astype(self.single_action_space.dtype)
        wrong, at = [], 0
        for lane, record in enumerate(state["lanes"]):
            own = actions[at : at + record["actions"]]
            at += record["actions"]
            if not self._replay(lane, record, own, saved):
                wrong.append(lane)
                self._begin(lane, secrets.randbits(63))
        self._started = True
        if wrong:
            self._exact = False
            warnings.warn(
                f"the environments of lanes {wrong[:8]}{'...' if len(wrong) > 8 else ''} could not be brought back to "
                "where they were: repeating their actions led elsewhere, so they began new episodes. The run goes on, "
                "but it is not bit for bit the one that was interrupted",
                RuntimeWarning,
                stacklevel=2,
            )

    def _replay(self, lane: int, record: Mapping[str, Any], rows: np.ndarray[Any, Any], saved: Any) -> bool:
        """Bring one lane back; whether it arrived."""
        if not record["whole"]:
            return False
        env = self.envs[lane]
        actions = rows.tolist() if isinstance(self.single_action_space, spaces.Discrete) else list(rows)
        try:
            obs, info = replay_record.replay(env, record["origin"], actions)
            self._write(lane, obs)
            self._write_facts(lane, info, False)
        except Exception:  # a foreign environment may object in its own way, and the answer is the same
            return False
        self._origins[lane], self._actions[lane], self._age[lane] = dict(record["origin"]), actions, len(actions)
        pairs = zip(tree_leaves(self._obs), tree_leaves(saved))
        arrived = all(replay_record.same(now[lane], then[lane]) for now, then in pairs)
        return arrived and replay_record.same(replay_record.random_state(env), record["random"])

    def _check_state(self, state: Any) -> None:
        """Raise ValueError unless every part of a state fits this batch."""
        if not isinstance(state, Mapping) or state.get("format") != FORMAT:
            raise ValueError(f"this is not the state of a bridged batch (no format {FORMAT!r} in it)")
        lanes, obs = state.get("lanes"), state.get("obs")
        if (
            state.get("num_envs") != self.num_envs
            or not isinstance(lanes, list)
            or len(lanes) not in (0, self.num_envs)
        ):
            raise ValueError(
                f"the state is of {state.get('num_envs')!r} environments, and this batch has {self.num_envs}"
            )
        if not lanes:
            return
        _check_tree(obs, self._obs, "obs")
        total = 0
        for lane, record in enumerate(lanes):
            where = f"lane {lane}"
            if not isinstance(record, Mapping) or set(record) != {"origin", "actions", "random", "whole"}:
                raise ValueError(f"{where}: a record has origin, actions, random and whole, and got {record!r:.200}")
            count, whole = record["actions"], record["whole"]
            if type(count) is not int or type(whole) is not bool or not 0 <= count <= self._most_actions:
                raise ValueError(f"{where}: {count!r} actions in an episode of at most {self._most_actions} steps")
            total += count
            replay_record.check_origin(self.envs[lane], record["origin"], where)
            replay_record.check_random(self.envs[lane], record["random"], where)
        actions = state.get("actions")
        if not isinstance(actions, np.ndarray | Tensor):
            raise ValueError(f"the recorded actions are an array, and got {type(actions).__name__}")
        try:
            check_actions(self.single_action_space, actions, total)
        except ValueError as error:
            raise ValueError(f"the recorded actions of all lanes, end to end: {error}") from error


def _check_tree(state: Any, present: Any, where: str) -> None:
    if isinstance(present, Mapping):
        if not isinstance(state, Mapping) or set(state) != set(present):
            raise ValueError(f"{where}: expected {sorted(present)}, and got {type(state).__name__}")
        for name in present:
            _check_tree(state[name], present[name], f"{where}.{name}")
    elif not isinstance(state, np.ndarray | Tensor) or np.asarray(state).shape != present.shape:
        raise ValueError(f"{where}: expected an array of shape {present.shape}, and got {state!r:.80}")
