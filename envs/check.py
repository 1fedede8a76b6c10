"""The conformance tests of a BatchEnv, for everybody who writes one."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from .batch import BatchEnv
from .spaces import children, numpy_dtype, torch_dtype, tree_leaves, tree_map

Factory = Callable[[int], BatchEnv]


class ConformanceError(AssertionError):
    """A batch breaks a promise of ``BatchEnv``."""


def check_batch_env(
    env: str | BatchEnv | Factory, *, seed: int = 0, steps: int = 24, lanes: tuple[int, int] = (2, 5)
) -> None:
    """Check that a batch keeps the promises of ``BatchEnv``.

    Shapes, dtypes and devices; observations in their spaces; the reports of ends; the cap on episodes; refusal of bad
    actions without a trace; determinism, also over the number of lanes; the reset mask; ``encode``; and the state out
    and in. Random actions end few episodes in few steps: check a batch with a short time limit too.

    Args:
        env: An id, a batch, or a function from the number of lanes to a new batch. A batch alone can be compared with
            itself only: what needs two of them is left out.
        seed: Of the environments and of the actions.
        steps: Length of each rollout.
        lanes: The two sizes to compare.

    Raises:
        ConformanceError: The first promise that is broken.
    """
    if isinstance(env, BatchEnv):
        _check_declaration(env)
        _check_rollout(env, seed, steps)
        _check_repeats(env, seed, steps)
        _check_encode(env)
        return
    if isinstance(env, str):
        from .bridges import make_batch

        name = env
        env = lambda n: make_batch(name, n)  # noqa: E731
    small, large = env(lanes[0]), env(lanes[1])
    try:
        _check_declaration(small)
        _check_unstarted(small, seed)
        _check_rollout(small, seed, steps)
        _check_lanes(small, large, seed, steps)
        _check_bad_actions(small, large, seed)
        _check_mask(large, env(lanes[1]), seed, steps)
        _check_encode(small)
        _check_state(small, env(lanes[0]), seed, steps)
    finally:
        small.close()
        large.close()


def _require(condition: Any, promise: str) -> None:
    if not condition:
        raise ConformanceError(promise)


def _actions(env: BatchEnv, seed: int, steps: int, lanes: int) -> list[Tensor]:
    """Random actions: lane i's do not depend on how many lanes there are."""
    columns = []
    for lane in range(lanes):
        copy = deepcopy(env.single_action_space)
        copy.seed(seed + lane)
        columns.append([np.asarray(copy.sample()) for _ in range(steps)])
    return [
        torch.as_tensor(np.stack([column[t] for column in columns]), device=env.device, dtype=torch_dtype(copy))
        for t in range(steps)
    ]


def _check_declaration(env: BatchEnv) -> None:
    _require(isinstance(env, BatchEnv), f"{env!r} is not a BatchEnv")
    mode = env.metadata.get("autoreset_mode")
    _require(mode is AutoresetMode.SAME_STEP, f"metadata['autoreset_mode'] is SAME_STEP in every BatchEnv, not {mode}")
    _require(isinstance(env.device, torch.device), f"device is a torch.device, not {env.device!r}")
    for name in ("observation_space", "action_space"):
        single, whole = getattr(env, f"single_{name}"), getattr(env, name)
        expected = gym.vector.utils.batch_space(single, env.num_envs)
        _require(whole == expected, f"{name} is single_{name} batched {env.num_envs} times, and it is {whole}")
    _require(env.max_steps is None or env.max_steps > 0, f"max_steps={env.max_steps!r} is None or positive")


def _check_unstarted(env: BatchEnv, seed: int) -> None:
    try:
        env.step(_actions(env, seed, 1, env.num_envs)[0])
    except (RuntimeError, ValueError, gym.error.ResetNeeded):
        return
    _require(False, "step before the first reset raises RuntimeError and says so")


def _check_tree(env: BatchEnv, space: gym.Space[Any], tree: Any, where: str, rows: Any = None) -> None:
    """Shapes, dtypes, device, and membership in the space of some rows."""
    parts = children(space)
    if parts is not None:
        _require(isinstance(tree, dict) and set(tree) == set(parts), f"{where} is a dict with the keys {sorted(parts)}")
        for name, child in parts.items():
            _check_tree(env, child, tree[name], f"{where}[{name!r}]", rows)
        return
    _check_tensor(env, tree, where, torch_dtype(space), tuple(space.shape or ()))
    array = tree.cpu().numpy()
    for lane in range(env.num_envs) if rows is None else np.flatnonzero(rows).tolist():
        row = array[lane]
        row = row.astype(space.dtype) if row.shape else np.dtype(numpy_dtype(space)).type(row)
        _require(space.contains(row), f"{where} of lane {lane} is not in {space}: {row!r:.300}")


def _check_tensor(env: BatchEnv, tensor: Any, where: str, dtype: torch.dtype, shape: tuple[int, ...] = ()) -> None:
    _require(isinstance(tensor, Tensor), f"{where} is a tensor, not {type(tensor).__name__}")
    want = (env.num_envs, *shape)
    _require(tuple(tensor.shape) == want, f"{where} has shape {want}, not {tuple(tensor.shape)}")
    _require(tensor.dtype == dtype, f"{where} has dtype {dtype}, not {tensor.dtype}")
    _require(tensor.device.type == env.device.type, f"{where} lives on {env.device}, not on {tensor.device}")


def _facts_form(env: BatchEnv, facts: Any, where: str) -> dict[str, Any]:
    _require(isinstance(facts, dict), f"{where} is a dict of tensors, not {type(facts).__name__}")
    for name, tensor in facts.items():
        _require(isinstance(tensor, Tensor), f"{where}[{name!r}] is a tensor, not {type(tensor).__name__}")
        _require(tensor.shape[:1] == (env.num_envs,), f"{where}[{name!r}] has one row for each lane")
    if "success" in facts:
        _check_tensor(env, facts["success"], f"{where}['success']", torch.bool)
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in facts.items()}


def _check_rollout(env: BatchEnv, seed: int, steps: int) -> None:
    """Reset, and step with random actions, and look at all that comes back."""
    space = env.single_observation_space
    obs, info = env.reset(seed=seed)
    _check_tree(env, space, obs, "reset's observation")
    form = _facts_form(env, info.get("facts"), "reset's info['facts']")
    age = np.zeros(env.num_envs, np.int64)
    for t, actions in enumerate(_actions(env, seed, steps, env.num_envs)):
        obs, reward, terminated, truncated, info = env.step(actions)
        _check_tree(env, space, obs, f"step {t}'s observation")
        agents = getattr(env.unwrapped, "agents", ()) if env.unwrapped is env else ()
        _check_tensor(env, reward, "reward", torch.float32, (len(agents),) if agents else ())
        _check_tensor(env, terminated, "terminated", torch.bool)
        _check_tensor(env, truncated, "truncated", torch.bool)
        _require(torch.isfinite(reward).all(), f"step {t}'s reward is finite, not {reward}")
        for name in ("final_obs", "_final_obs", "facts", "final_facts"):
            _require(name in info, f"step's info has {name!r} at every step, ends or not; it has {sorted(info)}")
        _check_tensor(env, info["_final_obs"], "info['_final_obs']", torch.bool)
        ended = terminated | truncated
        _require(torch.equal(info["_final_obs"], ended), "info['_final_obs'] is terminated | truncated")
        mask = ended.cpu().numpy()
        _check_tree(env, space, info["final_obs"], "info['final_obs']", mask)
        _require(_facts_form(env, info["facts"], "info['facts']") == form, "facts keep their names, shapes and dtypes")
        _require(
            _facts_form(env, info["final_facts"], "info['final_facts']") == form, "final_facts have the facts' form"
        )
        if not env.always_valid:
            _check_tensor(env, info.get("valid"), "info['valid']", torch.bool)
        age += 1
        if env.max_steps is not None:
            late = np.flatnonzero((age >= env.max_steps) & ~mask)
            _require(late.size == 0, f"episodes end after max_steps={env.max_steps} steps; lanes {late.tolist()} go on")
        age[mask] = 0


def _live(env: BatchEnv, actions: list[Tensor]) -> list[Any]:
    """Step through actions, and keep copies of everything that is promised."""
    out = []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        ended = terminated | truncated
        final = tree_map(
            lambda leaf, e=ended: torch.where(e.reshape(-1, *[1] * (leaf.dim() - 1)), leaf, 0), info["final_obs"]
        )
        row = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, "final": final}
        out.append(tree_map(torch.clone, {**row, "facts": info["facts"]}))
    return out


def _compare(first: list[Any], second: list[Any], lanes: Any, promise: str) -> None:
    for t, (a, b) in enumerate(zip(first, second)):
        for name in a:
            for x, y in zip(tree_leaves(a[name]), tree_leaves(b[name])):
                same = torch.equal(torch.nan_to_num(x[lanes]), torch.nan_to_num(y[lanes]))
                _require(same, f"{promise}: {name} differs at step {t}")


def _begin(env: BatchEnv, seed: int) -> Any:
    obs, _ = env.reset(seed=seed)
    return tree_map(torch.clone, obs)


def _check_repeats(env: BatchEnv, seed: int, steps: int) -> None:
    actions = _actions(env, seed, steps, env.num_envs)
    runs = []
    for _ in range(2):
        first = _begin(env, seed)
        runs.append([{"obs": first}, *_live(env, actions)])
    _compare(runs[0], runs[1], slice(None), "the same seed and actions give the same episodes")


def _check_lanes(small: BatchEnv, large: BatchEnv, seed: int, steps: int) -> None:
    runs = []
    for env in (small, large):
        first = _begin(env, seed)
        runs.append([{"obs": first}, *_live(env, _actions(env, seed, steps, env.num_envs))])
    promise = f"lane i of a seed is the same with {small.num_envs} lanes as with {large.num_envs}"
    _compare(runs[0], runs[1], slice(small.num_envs), promise)


def _check_bad_actions(small: BatchEnv, large: BatchEnv, seed: int) -> None:
    """Bad actions are refused, and the lanes of ``small`` go on as those of ``large``, which saw none."""
    first, *rest = _actions(small, seed, 4, small.num_envs)
    _begin(small, seed)
    bad: list[tuple[str, Any]] = [("one action too few", first[:-1]), ("one axis too many", first[:, None])]
    space = small.single_action_space
    if isinstance(space, gym.spaces.Box):
        if np.dtype(space.dtype).kind == "f":
            bad.append(("NaN", torch.full_like(first, float("nan"))))
        if np.isfinite(space.high).all():
            bad.append(
                ("above the bounds", torch.as_tensor(space.high, device=small.device) + 1 + torch.zeros_like(first))
            )
    else:
        bad += [("below the range", torch.full_like(first, -1)), ("above the range", torch.full_like(first, 10**6))]
        bad.append(("fractions", first.double() + 0.5))
    for name, actions in bad:
        try:
            small.step(actions)
        except ValueError:
            continue
        _require(False, f"bad actions ({name}) raise ValueError")
    _begin(large, seed)
    theirs = _live(large, _actions(large, seed, 4, large.num_envs))
    ours = _live(small, [first, *rest])
    _compare(ours, theirs, slice(small.num_envs), "refused actions leave no trace")


def _check_mask(env: BatchEnv, other: BatchEnv, seed: int, steps: int) -> None:
    """Reset lane 0 alone, and see that the others do not notice."""
    try:
        actions = _actions(env, seed, steps, env.num_envs)
        half = max(1, len(actions) // 2)
        for each in (env, other):
            _begin(each, seed)
            before = _live(each, actions[:half])[-1]["obs"]
        mask = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        mask[0] = True
        obs, info = env.reset(options={"reset_mask": mask})
        _check_tree(env, env.single_observation_space, obs, "the observation after a reset with a mask")
        _facts_form(env, info.get("facts"), "the facts after a reset with a mask")
        promise = "a reset with a mask leaves the other lanes alone"
        _compare([{"obs": obs}], [{"obs": before}], slice(1, None), promise)
        _compare(_live(env, actions[half:]), _live(other, actions[half:]), slice(1, None), promise)
        for bad in (mask[:-1], mask.long()):
            try:
                env.reset(options={"reset_mask": bad})
            except (ValueError, TypeError):
                continue
            _require(False, f"a reset_mask of {bad.dtype} {tuple(bad.shape)} raises ValueError")
    finally:
        other.close()


def _check_encode(env: BatchEnv) -> None:
    """``encode`` of the single environment's observation has the form of a batch of one, and of a list, of two."""
    singles = env.envs
    if singles is None:
        return
    copy = deepcopy(singles[0].observation_space)
    copy.seed(0)
    for n, given in ((1, copy.sample()), (2, [copy.sample(), copy.sample()])):
        tree = env.encode(given)
        leads = {tuple(leaf.shape[:1]) for leaf in tree_leaves(tree)}
        _require(leads == {(n,)}, f"encode of {n} observations gives tensors with {n} rows, not {leads}")


def _check_state(env: BatchEnv, other: BatchEnv, seed: int, steps: int) -> None:
    """Save in the middle, go on, and go on again from the saved state in another batch."""
    try:
        if not env.exact_state:
            return
        actions = _actions(env, seed, steps, env.num_envs)
        half = max(1, len(actions) // 2)
        _begin(env, seed)
        _live(env, actions[:half])
        state = env.state_dict()
        _check_plain(state, "state_dict()")
        onward = _live(env, actions[half:])
        other.load_state_dict(state)
        _require(other.exact_state, "exact_state stays True after a load that was promised to be exact")
        _compare(_live(other, actions[half:]), onward, slice(None), "load_state_dict(state_dict()) restores everything")
        try:
            other.load_state_dict({"nonsense": 1})
        except ValueError:
            return
        _require(False, "load_state_dict of a foreign state raises ValueError")
    finally:
        other.close()


def _check_plain(tree: Any, where: str) -> None:
    """Only what a checkpoint can hold: nested dicts and lists of plain values, arrays and tensors."""
    if isinstance(tree, Mapping):
        for name, child in tree.items():
            _require(isinstance(name, str), f"{where} has string keys, not {name!r}")
            _check_plain(child, f"{where}[{name!r}]")
    elif isinstance(tree, list):
        for i, child in enumerate(tree):
            _check_plain(child, f"{where}[{i}]")
    else:
        plain = tree is None or type(tree) in (bool, int, float, str) or isinstance(tree, Tensor | np.ndarray)
        _require(plain, f"{where} is {type(tree).__name__}, which a checkpoint cannot hold")
