"""Make demonstrations: of a policy, of a search over the grid engine, of a run folder."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor

from ...envs.batch import BatchEnv
from ...envs.spaces import tree_map
from ..evaluation import LONGEST, fresh_seed, own_randomness
from .convert import actions_of, from_episodes
from .demonstrations import Demonstrations

Actor: TypeAlias = Callable[[Any, Mapping[str, Any]], Tensor]
"""Observations ``[N, ...]`` and the info of the step that led to them, to actions ``[N, ...]`` as executed."""


@torch.no_grad()
def collect(
    actor: Actor,
    env: BatchEnv,
    episodes: int,
    *,
    seed: int = 0,
    only_success: bool = False,
    most: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Demonstrations:
    """Play whole episodes and keep them: each lane's first, so that short episodes do not come more often.

    With fewer lanes than episodes it takes several rounds, each with fresh levels in all lanes.

    Args:
        actor: Who acts. In the first step of a round, ``info`` is what ``reset`` gave.
        env: A batch that is this function's alone; it is reset.
        episodes: How many to keep.
        seed: Chooses the levels and the actor's own dice; the caller's random streams are left as they were.
        only_success: Leave out episodes that did not end in success (a solver that gave up, say).
        most: Episodes to play at most; 20 times as many as wanted, if left out.
        about: Kept with them.

    Raises:
        ValueError: ``episodes`` is below 1, too few succeed, or success is asked for and the environment tells none.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: at least 1")
    kept: list[Demonstrations] = []
    count, played, most = 0, 0, 20 * episodes if most is None else most
    with own_randomness(fresh_seed(seed, "collect")):
        while count < episodes:
            if played >= most:
                raise ValueError(
                    f"only {count} of {played} episodes ended in success, and {episodes} were wanted: take a better "
                    "actor, another seed, or keep the failures (only_success=False)"
                )
            part = _round(actor, env, fresh_seed(seed, "demonstrations", played), only_success)
            played += env.num_envs
            if part is not None:
                part = part if part.episodes <= episodes - count else part.select(range(episodes - count))
                kept.append(part)
                count += part.episodes
    made = Demonstrations.cat(kept)
    made.about = {"seed": seed, "episodes_played": played, **(about or {})}
    return made


def _round(actor: Actor, env: BatchEnv, seed: int, only_success: bool) -> Demonstrations | None:
    """The first episode of every lane."""
    obs, info = env.reset(seed=seed)
    lanes = env.num_envs
    names = ("obs", "action", "reward", "terminated", "truncated", "live")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    last = tree_map(lambda v: torch.zeros_like(v), obs)
    live, won = torch.ones(lanes, dtype=torch.bool, device=env.device), torch.zeros(lanes, dtype=torch.bool)
    knew = True
    cap = env.max_steps or LONGEST
    for step in range(cap):
        if not bool(live.any()):
            break
        columns["obs"].append(tree_map(lambda v: v.clone(), obs))
        action = actor(obs, info)
        columns["action"].append(action.clone())
        obs, reward, terminated, truncated, info = env.step(action)
        real = live & info["valid"] if "valid" in info else live
        ended = real & (terminated | truncated)
        tree_map(lambda to, v: to.copy_(_where(ended, v, to)), last, info["final_obs"])  # noqa: B023
        success = info.get("final_facts", {}).get("success")
        if success is not None:
            won |= (ended & success.bool()).cpu()
        elif bool(ended.any()):
            knew = False
        for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            columns[name].append(value.clone())
        columns["live"].append(real.clone())
        live = live & ~ended
        if step + 1 == cap and bool(live.any()):
            raise ValueError(f"{int(live.sum())} episodes went on beyond {cap} steps: give the environment a cap")
    if only_success and not knew:
        raise ValueError("the environment does not tell success, so only_success cannot be asked for")
    real = torch.stack(columns["live"]).cpu()  # [T, N]
    chosen = (won if only_success else torch.ones(lanes, dtype=torch.bool)).nonzero()[:, 0]
    if not len(chosen):
        return None

    def steps(name: str) -> Any:
        return tree_map(lambda *vs: torch.stack(vs).cpu(), *columns[name])

    def rows(column: Tensor) -> Tensor:
        return torch.cat([column[real[:, i], i] for i in chosen.tolist()])

    def states(column: Tensor, final: Tensor) -> Tensor:
        return torch.cat([torch.cat([column[real[:, i], i], final[i : i + 1]]) for i in chosen.tolist()])

    seen = tree_map(states, steps("obs"), tree_map(lambda v: v.cpu(), last))
    parts = {name: rows(steps(name)) for name in ("action", "reward", "terminated", "truncated")}
    return Demonstrations(
        env.single_observation_space, env.single_action_space, seen, lengths=real.sum(0)[chosen], about=None, **parts
    )


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *[1] * (no.dim() - 1)), yes, no)


def solver(env: Any, max_states: int = 1_000_000) -> Actor:
    """An actor that walks the shortest solutions of a ``GridBatch``'s levels, found by breadth-first search.

    Levels without a solution within the budget are stood through by turning on the spot: collect with
    ``only_success=True``. The plan is made in the first step of an episode's round, for all lanes at once.

    Args:
        env: The ``GridBatch`` that it will act in.
        max_states: Budget of the search, states for each level.

    Raises:
        TypeError: The environment is not on the grid engine.
    """
    from ...envs.grid.engine import GridBatch
    from ...envs.grid.planner import shortest_plans

    if not isinstance(env, GridBatch):
        raise TypeError(
            f"the solver searches levels of the native grid engine, and this is a {type(env).__name__}: for BabyAI ids "
            "that the engine does not have take cairn.agents.data.babyai_bot"
        )
    plans: list[list[int]] = []
    at = torch.zeros(env.num_envs, dtype=torch.int64)

    def act(obs: Any, info: Mapping[str, Any]) -> Tensor:
        if "_final_obs" not in info:  # a reset
            plans[:] = [plan or [] for plan in shortest_plans(env, max_states=max_states)]
            at.zero_()
        else:
            at.masked_fill_(info["_final_obs"].cpu(), 1 << 30)  # the plan was for the first episode
        steps = [plan[t] if t < len(plan) else 0 for plan, t in zip(plans, at.tolist())]
        at.add_(1)
        return torch.tensor(steps, dtype=torch.int64, device=env.device)

    return act


def collect_single(
    act: Callable[[gym.Env[Any, Any], Any], Any],
    env: gym.Env[Any, Any],
    episodes: int,
    *,
    seed: int = 0,
    only_success: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Demonstrations:
    """Play episodes of one Gymnasium environment with an actor that may look inside it (a bot, a controller).

    Args:
        act: ``act(env, obs)`` gives the next action; it is called with the first observation of an episode right after
            ``env.reset``, where ``act.begin(env)`` is called if there is one.
        env: The environment.
        episodes: How many.
        seed: Of the first reset; the others follow.
        only_success: Keep only episodes whose return is above 0, or whose last info says ``is_success``.
        about: Kept with them.

    Raises:
        ValueError: Fewer than a twentieth of the episodes succeed.
    """
    from ...envs.spaces import declare

    symbols = "minigrid" in type(env.unwrapped).__module__ or hasattr(env.unwrapped, "agent_view_size")
    space = declare(env.observation_space, symbols=symbols)
    rows: list[dict[str, Any]] = []
    played = 0
    while len(rows) < episodes:
        if played >= 20 * episodes:
            raise ValueError(f"only {len(rows)} of {played} episodes succeeded, and {episodes} were wanted")
        obs, info = env.reset(seed=fresh_seed(seed, "single", played))
        begin = getattr(act, "begin", None)
        if begin is not None:
            begin(env)
        episode: dict[str, Any] = {
            "observations": [obs], "actions": [], "rewards": [], "terminations": [], "truncations": []
        }  # fmt: skip
        done = False
        while not done:
            action = act(env, obs)
            obs, reward, terminated, truncated, info = env.step(action)
            for name, value in zip(
                ("observations", "actions", "rewards", "terminations", "truncations"),
                (obs, action, float(reward), terminated, truncated),
            ):
                episode[name].append(value)
            done = terminated or truncated
        played += 1
        if not only_success or info.get("success", info.get("is_success", sum(episode["rewards"]) > 0)):
            rows.append(episode)
    made = from_episodes(rows, space, env.action_space)
    made.about = {"seed": seed, "episodes_played": played, **(about or {})}
    return made


def from_sb3(model: Any, env: Any, episodes: int, *, seed: int = 0, deterministic: bool = True) -> Demonstrations:
    """Let a Stable-Baselines3 model of any kind act in a batch, and keep its episodes.

    (SB3's own rollout buffers do not hold the last observations of episodes, so there is nothing to convert.)

    Args:
        model: Has ``predict``; one of SB3's or of Cairn's.
        env: What ``make_batch`` takes.
        episodes: How many.
        seed: As for ``collect``.
        deterministic: Take the likeliest actions.
    """
    from ...envs.bridges import make_batch

    batch = make_batch(env)

    def act(obs: Any, info: Mapping[str, Any]) -> Tensor:
        seen = tree_map(lambda v: v.cpu().numpy(), obs)
        actions, _ = model.predict(seen, deterministic=deterministic)
        return actions_of(batch.single_action_space, actions).to(batch.device)

    return collect(act, batch, episodes, seed=seed, about={"actor": type(model).__name__})
