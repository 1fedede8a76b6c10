"""The exact state of any Gymnasium environment, without pickle: where its episode began, and the actions since.

An environment's objects cannot be saved in a safe format, but its episode can be lived again: put the random
generator back to where it was before the last reset, reset, and repeat the actions. Whether that leads to the same
place is not promised by anybody, so it is verified: by the last observation and by the generator's state.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np

from .single_env import sample_action, seeded_copy

# Where an environment has no cap on its episodes: longer ones are not recorded, and not exact.
RECORD_LIMIT = 100_000


class Mismatch(Exception):
    """A replay did not lead to where the record ends."""


def random_state(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The state of the environment's own generator, as a tree of plain values."""
    return deepcopy(dict(env.unwrapped.np_random.bit_generator.state))


def is_keyed(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment derives its levels from a key (seed, lane, episode), as Cairn's single ones do."""
    return bool(getattr(env.unwrapped, "keyed", False))


def begin(
    env: gym.Env[Any, Any], lane: int, seed: int | None, own_seed: int | None, options: dict[str, Any] | None
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Reset an environment and note where its episode begins.

    Args:
        env: The environment.
        lane: Its place in the batch.
        seed: The batch's seed, for keyed environments; None to go on with the next episode.
        own_seed: The lane's own seed, for all others.
        options: Passed on to ``reset``.

    Returns:
        The observation, the info, and the origin: what ``replay`` needs.
    """
    if is_keyed(env):
        if seed is not None:
            options = {**(options or {}), "lane": lane}
        obs, info = env.reset(seed=seed, options=options)
        unwrapped: Any = env.unwrapped
        return obs, info, {"key": list(unwrapped.stream_key), "options": _plain(options)}
    if own_seed is not None:
        obs, info = env.reset(seed=own_seed, options=options)
        return obs, info, {"seed": own_seed, "options": _plain(options)}
    before = random_state(env)
    obs, info = env.reset(options=options)
    return obs, info, {"random": before, "options": _plain(options)}


def _plain(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """The options where they can be saved; otherwise a mark that makes the record inexact."""
    if options is None or all(isinstance(v, bool | int | float | str | np.ndarray | None) for v in options.values()):
        return options
    return {"not plain": True}


def replay(env: gym.Env[Any, Any], origin: Mapping[str, Any], actions: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Live an open episode again.

    Returns:
        The last observation and the last info.

    Raises:
        Mismatch: The episode ended on the way.
    """
    options = dict(origin["options"]) if origin["options"] is not None else None
    if "key" in origin:
        seed, lane, episode = origin["key"]
        obs, info = env.reset(seed=seed, options={**(options or {}), "lane": lane, "episode": episode})
    elif "seed" in origin:
        obs, info = env.reset(seed=origin["seed"], options=options)
    else:
        env.unwrapped.np_random.bit_generator.state = deepcopy(origin["random"])
        obs, info = env.reset(options=options)
    for t, action in enumerate(actions):
        obs, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            raise Mismatch(f"the episode ended after {t + 1} of {len(actions)} actions")
    return obs, info


def check_origin(env: gym.Env[Any, Any], origin: Any, where: str) -> None:
    """Raise ValueError unless ``origin`` is one that ``replay`` can use on ``env``; changes nothing."""
    kinds = ["key"] if is_keyed(env) else ["seed", "random"]
    if not isinstance(origin, Mapping) or sum(name in origin for name in kinds) != 1 or len(origin) != 2:
        raise ValueError(f"{where}: the episode's origin is one of {kinds} with options, and got {origin!r:.200}")
    options = origin.get("options", 0)
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(k, str) for k in options)):
        raise ValueError(f"{where}: reset options are an object or nothing, and got {options!r:.200}")
    if "random" in origin:
        check_random(env, origin["random"], where)
        return
    numbers = origin["key"] if "key" in origin else [origin["seed"]]
    whole = isinstance(numbers, list) and len(numbers) == (3 if "key" in origin else 1)
    if not whole or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 64 for n in numbers):
        raise ValueError(f"{where}: {numbers!r:.200} is not a key or seed of whole numbers below 2**64")


def check_random(env: gym.Env[Any, Any], state: Any, where: str) -> None:
    """Raise ValueError unless ``state`` is a state of the environment's kind of generator."""
    present = env.unwrapped.np_random.bit_generator
    name = present.state["bit_generator"]
    if not isinstance(state, Mapping) or state.get("bit_generator") != name:
        raise ValueError(f"{where}: expected a state of the random generator {name}, and got {state!r:.200}")
    if isinstance(present, np.random.BitGenerator):
        try:
            type(present)().state = dict(state)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"{where}: not a state of the random generator {name}: {error}") from error


def same(a: Any, b: Any) -> bool:
    """Whether two trees of plain values and arrays are equal, NaN with NaN."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        x, y = np.asarray(a), np.asarray(b)
        return x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f" and y.dtype.kind == "f")
    return bool(a == b or (a != a and b != b))


def can_replay(make: Callable[[int], gym.Env[Any, Any]], steps: int = 12) -> bool:
    """Try on two fresh copies whether an environment's second episode can be replayed.

    The second one, because the first begins from a seed: what an environment carries from one episode to the next
    shows only there. A yes is no proof, so every load verifies again.
    """
    lived, copy = make(0), make(0)
    if lived.unwrapped is copy.unwrapped:  # somebody's own environment, which is not ours to try things on or close
        return True
    try:
        space = seeded_copy(lived.action_space)
        lived.reset(seed=1)
        for _ in range(steps):
            _, _, terminated, truncated, _ = lived.step(sample_action(space))
            if terminated or truncated:
                break
        obs, _, origin = begin(lived, 0, None, None, None)
        actions: list[Any] = []
        for _ in range(steps):
            rehearsal = deepcopy(actions)
            action = sample_action(space)
            after, _, terminated, truncated, _ = lived.step(action)
            if terminated or truncated:  # an open episode is what has to be replayed: take the one before its end
                replayed, _ = replay(copy, origin, rehearsal)
                return same(replayed, obs)
            actions.append(action)
            obs = deepcopy(after)
        replayed, _ = replay(copy, origin, actions)
        return same(replayed, obs) and same(random_state(copy), random_state(lived))
    except Exception:  # whatever a foreign environment objects to, the answer is no
        return False
    finally:
        lived.close()
        copy.close()
