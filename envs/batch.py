"""BatchEnv: many environments that step together, their arrays being torch tensors on one device."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .spaces import encode, kind, torch_dtype

W = TypeVar("W", bound="BatchWrapper")


def lane_seed(seed: int, lane: int) -> int:
    """The seed of lane ``lane`` under ``seed``: a hash in [0, 2**63).

    ``seed + lane`` would give neighbouring seeds the same levels in shifted lanes. BLAKE2b is fixed for all
    machines, and 63 bits fit into a signed integer.

    Raises:
        ValueError: A negative seed or lane.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0 or lane < 0:
        raise ValueError(f"a seed is a whole number of at least 0, and got seed={seed!r}, lane={lane!r}")
    return int.from_bytes(blake2b(f"{int(seed)},{int(lane)}".encode(), digest_size=8).digest(), "big") >> 1


class BatchEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """N environments that step together.

    ``reset(seed=..., options=...)`` returns ``obs, info``; ``options={"reset_mask": bool [N]}`` resets some, and the
    rows of the others keep their present observations. Lane i of seed s depends on the pair (s, i) alone.

    ``step(actions [N, ...])`` returns ``obs, reward float32 [N], terminated bool [N], truncated bool [N], info``. A
    lane whose episode ends is reset within the same step (SAME_STEP), so ``obs`` is the first observation of its next
    episode. ``info`` has tensors only:

    - ``final_obs`` tree ``[N, ...]`` and its mask ``_final_obs`` ``[N]`` (terminated or truncated): the last
      observation of the episodes that ended; other rows are unspecified;
    - ``facts`` dict of ``[N, ...]``: structured facts about the new state (after the reset where one was), and
      ``final_facts``: the facts of ended episodes' last states, under the same mask. ``facts["success"]`` (bool) exists
      where an environment can know it. ``reset``'s info has ``facts`` too;
    - ``frame`` uint8 ``[N, H, W, 3]`` with its mask ``_frame``, where ``frame_every`` is k > 0: a picture of each lane
      whose episode has lasted a multiple of k steps (its start included), and ``final_frame`` with ``_final_frame``:
      the last picture of every episode that ended, taken before the reset;
    - ``valid`` bool ``[N]``, only where ``always_valid`` is False: False marks a row that is no transition (a foreign
      vector environment spent the step on a reset, and ignored the action). Learners leave such rows out.

    Returned tensors stay valid until the next step; whoever keeps them copies them. A wrong action raises
    ValueError before anything has changed.

    Args:
        num_envs: N.
        single_observation_space: Of one environment, as ``spaces.declare`` has it.
        single_action_space: Discrete, MultiDiscrete, MultiBinary or Box.
        device: Where the tensors live.
        max_steps: The cap on an episode's length, where it is known.
        render_mode: As in Gymnasium; ``"rgb_array"`` is what frames need.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    always_valid = True
    keyed = False  # the seed s of the batch is each single environment's own: reset(seed=s, options={"lane": i})
    exact_state: bool = False  # load_state_dict(state_dict()) restores everything: a resumed run is the same run
    envs: Sequence[gym.Env[Any, Any]] | None = None  # the single environments, where there are such objects

    def __init__(
        self,
        num_envs: int,
        single_observation_space: gym.Space[Any],
        single_action_space: gym.Space[Any],
        *,
        device: torch.device | str = "cpu",
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: a batch has at least one environment")
        if kind(single_action_space) not in ("discrete", "multi", "vector"):
            raise TypeError(
                f"actions of {single_action_space} are not supported; flatten them into one Discrete, MultiDiscrete, "
                "MultiBinary or Box with a wrapper"
            )
        self.metadata = dict(type(self).metadata)
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.single_observation_space = single_observation_space
        self.single_action_space = single_action_space
        self.observation_space = batch_space(single_observation_space, num_envs)
        self.action_space = batch_space(single_action_space, num_envs)
        self.max_steps = max_steps
        self.render_mode = render_mode
        self._frame_every = 0

    @property
    def frame_every(self) -> int:
        """k: ``info`` has a frame of each lane every k steps of its episode; 0 for none."""
        return self._frame_every

    @frame_every.setter
    def frame_every(self, k: int) -> None:
        self._set_frame_every(k)

    def _set_frame_every(self, k: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 0:
            raise ValueError(f"frame_every={k!r}: it is the number of steps between frames, or 0 for none")
        if k and self.render_mode != "rgb_array":
            raise ValueError(
                f"frames need an environment made with render_mode='rgb_array', and this one has {self.render_mode!r}"
            )
        self._frame_every = k

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; the class's docstring has the whole contract."""
        raise NotImplementedError

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; the class's docstring has the whole contract."""
        raise NotImplementedError

    def rest(self, lanes: Tensor) -> None:
        """Say that nobody looks at ``lanes`` (bool ``[N]``) until the next reset of all: a batch may leave them be.

        What it tells of them in the meantime is unspecified, and finite; the others are not touched by it. Most batches
        step them all the same: physics on a CPU does not.
        """

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and ``info`` with its facts, without a step (after ``load_state_dict``, say)."""
        raise NotImplementedError(f"{type(self).__name__} does not show its present observation without a step")

    def encode(self, obs: Any) -> Any:
        """Turn one observation of the single environment, or a list of B, into a tree ``[B, ...]`` of this batch."""
        return encode(self.single_observation_space, obs, self.device)

    def numpy(self) -> VectorEnv[Any, Any, Any]:
        """A NumPy view in DISABLED autoreset mode, for Gymnasium's own vector wrappers."""
        from .numpy_view import NumpyView

        return NumpyView(self)

    def state_dict(self) -> dict[str, Any]:
        """The whole state, generators included: nested dicts and lists of plain values, arrays and tensors."""
        raise NotImplementedError(f"{type(self).__name__} cannot save its state")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave; ValueError on a state that does not fit, and nothing has changed then."""
        raise NotImplementedError(f"{type(self).__name__} cannot load a state")

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane (``render_mode="rgb_array"``: uint8 ``[H, W, 3]``)."""
        raise NotImplementedError(f"{type(self).__name__} has no pictures")

    def __repr__(self) -> str:
        name = f"{self.spec.id}, " if self.spec is not None else ""
        return f"{type(self).__name__}({name}num_envs={self.num_envs}, device={str(self.device)!r})"


class BatchWrapper(BatchEnv):
    """A BatchEnv around another one: all that is not overridden is the inner one's.

    A wrapper with state of its own overrides ``_own_state`` and ``_load_own``; ``state_dict`` holds both.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if not isinstance(env, BatchEnv):
            raise TypeError(
                f"{type(self).__name__} wraps a BatchEnv, and got {type(env).__name__}; "
                "cairn.envs.make_batch turns ids, Gymnasium environments and vector environments into one"
            )
        self.env = env
        self.metadata = env.metadata
        self.num_envs, self.device = env.num_envs, env.device
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.max_steps, self.render_mode = env.max_steps, env.render_mode
        self.always_valid = env.always_valid
        self.spec = env.spec

    @property
    def envs(self) -> Sequence[gym.Env[Any, Any]] | None:  # type: ignore[override]
        """The single environments, where there are such objects."""
        return self.env.envs

    @property
    def unwrapped(self) -> BatchEnv:  # type: ignore[override]
        """The innermost BatchEnv."""
        return self.env.unwrapped

    @property
    def exact_state(self) -> bool:  # type: ignore[override]
        """Whether the state of the whole stack can be restored exactly."""
        return self.env.exact_state

    @property
    def frame_every(self) -> int:
        """k: a frame of each lane every k steps of its episode; 0 for none."""
        return self.env.frame_every

    @frame_every.setter
    def frame_every(self, k: int) -> None:
        self.env.frame_every = k

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once."""
        return self.env.step(actions)

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts, without a step."""
        return self.env.observe()

    def encode(self, obs: Any) -> Any:
        """Turn observations of the single environment into a batch."""
        return self.env.encode(obs)

    def state_dict(self) -> dict[str, Any]:
        """The inner state and this wrapper's own."""
        return {"env": self.env.state_dict(), "own": self._own_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the inner state and this wrapper's own."""
        if not isinstance(state, Mapping) or set(state) != {"env", "own"}:
            raise ValueError(
                f"this is not the state of a {type(self).__name__}: it was saved from an environment wrapped otherwise"
            )
        self._check_own(state["own"])  # before the inner one changes
        self.env.load_state_dict(state["env"])
        self._load_own(state["own"])

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _check_own(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError where the state does not fit: same names, shapes and dtypes as the present one."""
        check_like(state, self._own_state(), type(self).__name__)

    def _load_own(self, state: Mapping[str, Any]) -> None:
        pass

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane."""
        return self.env.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the inner environments."""
        self.env.close(**kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.env!r})"


def find_wrapper(env: BatchEnv, cls: type[W]) -> W | None:
    """The outermost wrapper of class ``cls`` around a batch, or None."""
    while isinstance(env, BatchWrapper):
        if isinstance(env, cls):
            return env
        env = env.env
    return None


def check_like(state: Any, present: Any, where: str) -> None:
    """Raise ValueError unless ``state`` has the form of ``present``: names, tensor shapes, types of plain values."""
    if isinstance(present, Mapping):
        if not isinstance(state, Mapping) or set(state) != set(present):
            have = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{where}: the state has {have}, and {sorted(map(str, present))} were expected")
        for name in present:
            check_like(state[name], present[name], f"{where}.{name}")
    elif isinstance(present, Tensor):
        if not isinstance(state, Tensor) or state.shape != present.shape or state.dtype != present.dtype:
            got = f"{state.dtype} {list(state.shape)}" if isinstance(state, Tensor) else type(state).__name__
            raise ValueError(f"{where}: expected a tensor {present.dtype} {list(present.shape)}, and got {got}")
    elif type(state) is not type(present):
        raise ValueError(f"{where}: expected {type(present).__name__}, and got {type(state).__name__}")


def check_reset_mask(mask: Any, num_envs: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The mask of ``options["reset_mask"]`` as a NumPy array, or ValueError."""
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.dtype != np.bool_ or array.shape != (num_envs,):
        raise ValueError(
            f"options['reset_mask'] is a bool array of shape ({num_envs},), not {array.dtype} of shape {array.shape}"
        )
    return array


def check_actions(space: gym.Space[Any], actions: Any, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
    """Turn actions into a tensor ``[N, ...]`` on ``device``, and refuse what is not one action for each lane.

    Args:
        space: The single action space.
        actions: Tensor, array or nested list ``[N, ...]``: whole numbers for Discrete, MultiDiscrete and MultiBinary
            spaces, finite numbers within the bounds for a Box.
        num_envs: N.
        device: Where the result goes. The check of the values costs one synchronisation of a GPU.

    Raises:
        ValueError: The shape, the type, or a value is wrong; the message names the first bad lane.
    """
    tensor = check_action_form(space, actions, num_envs, device)
    whole = not tensor.is_floating_point()
    low, high = _action_bounds(space, tensor)
    if isinstance(low, int) and tensor.numel():  # one range for all: two numbers tell, and this is the common case
        least, most = torch.aminmax(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor)
        if int(least) >= low and int(most) <= high:
            return tensor.to(torch_dtype(space))
    good = (tensor >= low) & (tensor <= high) & torch.isfinite(tensor)  # NaN compares false
    if not bool(good.all()):
        lane = int((~good).reshape(num_envs, -1).any(1).nonzero()[0, 0])
        hint = "; clip the policy's actions to the bounds first" if not whole else ""
        raise ValueError(f"the action of lane {lane} is {tensor[lane].tolist()}, which is not in {space}{hint}")
    return tensor.to(torch_dtype(space))


def check_action_form(space: gym.Space[Any], actions: Any, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
    """Do the part of ``check_actions`` that looks at no value, and so waits for no GPU.

    Raises:
        ValueError: The shape or the type is wrong.
    """
    try:
        tensor = torch.as_tensor(actions, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"actions are one tensor [N, ...] with N={num_envs}, and got {actions!r}") from error
    shape = (num_envs, *(space.shape or ()))
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"actions of shape {tuple(tensor.shape)}, and {num_envs} environments with {space} want {shape}: "
            "one row for each lane"
        )
    whole = not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind in "iu"
    if tensor.is_complex() or (
        whole
        and (tensor.is_floating_point() or tensor.dtype == torch.bool)
        and not (isinstance(space, spaces.MultiBinary) and tensor.dtype == torch.bool)
    ):
        kind = "whole" if whole else "real"
        raise ValueError(f"actions have dtype {tensor.dtype}, and {space} wants {kind} numbers")
    if not whole:
        tensor = tensor.to(torch_dtype(space))
    return tensor


def _action_bounds(space: gym.Space[Any], like: Tensor) -> tuple[Any, Any]:
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete):
        start = torch.as_tensor(space.start, device=like.device)
        return start, start + torch.as_tensor(space.nvec, device=like.device) - 1
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    assert isinstance(space, spaces.Box)
    return torch.as_tensor(space.low, device=like.device), torch.as_tensor(space.high, device=like.device)
