"""Teams on the four sparse tasks of Roy et al. (2020): what ``multi.py --learn`` trains there, and scripted teams.

A cell is ``SIDE`` seeds of one algorithm on one task, side by side in one process (``learners`` of ``MADDPG``); a row
is one of them, played alone. All algorithms have the same settings, chosen on MADDPG.
"""

import itertools
import time
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from cairn.agents.evaluation import evaluate_batch, fresh_seed
from cairn.agents.table import agent_class
from cairn.agents.training import acting

SIDE = 5  # seeds of a cell
LANES = 100  # environments of a seed: an update every 100 steps, as in the published code
# Chosen on MADDPG, on compromise: rates of 3e-4, 5e-4 and 1e-3, minibatches of 128 and 256.
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3, "tau": 0.01, "buffer_size": 300_000, "learning_starts": 5_000,
    "train_freq": 1, "policy_kwargs": {"net_arch": [64, 64]},
    # The published code's noise while it explores: 1.5 times a process of 0.15 and 0.2.
    "action_noise": {"kind": "ou", "mean": [0.0], "sigma": [0.3], "theta": 0.15, "dt": 1.0, "first": None},
}  # fmt: skip
TEAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "maddpg": ("maddpg", {}),
    "teamreg": ("teamreg", {}),
    "coachreg": ("coachreg", {}),
    # The same networks without the bias: agents that guess and are not drawn to be guessed, sub-policies of one's own.
    "guessing": ("teamreg", {"predictable_weight": 0.0}),
    "masks": ("coachreg", {"match_weight": 0.0, "together_weight": 0.0, "coach_weight": 0.0}),
}
PARTS = 4  # points of a curve


def teams_cell(
    task: str, world: str, agent: str, first: int, steps: int, minibatches: str = "1x256"
) -> list[dict[str, object]]:
    """Train seeds ``first`` to ``first + SIDE - 1`` of one algorithm; a row for each.

    Args:
        task: The task's name in the table.
        world: Its id is ``cairn/<world>-v0``.
        agent: One of ``TEAMS``.
        first: The first seed, a multiple of ``SIDE``.
        steps: Environment steps of each.
        minibatches: How many after every 100 steps, and of how many rows.
    """
    name, own = TEAMS[agent]
    count, rows_each = (int(number) for number in minibatches.split("x"))
    settings = {**SETTINGS, "gradient_steps": count, "batch_size": rows_each, **own}
    envs: Any = gym.make_vec(f"cairn/{world}-v0", num_envs=SIDE * LANES, device="cpu")
    trial: Any = gym.make_vec(f"cairn/{world}-v0", num_envs=100, device="cpu")
    wall, cpu = time.perf_counter(), time.process_time()
    model = agent_class(name)("MlpPolicy", envs, seed=first, learners=SIDE, **settings)
    curves: list[list[str]] = [[] for _ in range(SIDE)]
    rows: list[dict[str, object]] = []
    for part in range(PARTS):
        model.learn(max(steps // PARTS, 1) * SIDE, reset_num_timesteps=part == 0, log_interval=None)
        rows = []
        for k in range(SIDE):
            lone, fresh = model.learner(k), fresh_seed(first + k, "multi", part)
            seen: list[Tensor] = []
            last = evaluate_batch(_watched(acting(lone, True), seen), trial, 100, fresh)
            curves[k].append(f"{lone.num_timesteps}:{last.return_mean:.3f}")
            watched = torch.cat(seen[::10])
            measured = {
                what: round(float(getattr(lone, what)(watched).mean().detach()), 4) if hasattr(lone, what) else ""
                for what in ("team_error", "synchrony")
            }
            rows.append({
                "task": task, "agent": agent, "seed": first + k, "steps": steps, "minibatches": minibatches,
                "return": round(last.return_mean, 4),
                "success": "" if last.success is None else last.success,
                "cpu_seconds": round((time.process_time() - cpu) / SIDE, 1), **measured, "curve": " ".join(curves[k]),
            })  # fmt: skip
        mean, seconds = sum(float(str(row["return"])) for row in rows) / SIDE, time.perf_counter() - wall
        told = f"{model.num_timesteps // SIDE:9,} steps each, mean return {mean:7.2f}, {seconds:6.0f} s "
        print(f"\r{task} {agent} seeds {first} to {first + SIDE - 1}: {told}", end="", flush=True)
    print(flush=True)
    return rows


def _watched(act: Any, seen: list[Tensor]) -> Any:
    """``act``, with what it is shown kept in ``seen``."""

    def watching(obs: Tensor) -> Tensor:
        seen.append(obs.clone())
        return act(obs)  # type: ignore[no-any-return]

    return watching


# ---- scripted teams --------------------------------------------------------------------------------------


def _push(way: Tensor, speed: Tensor | float = 0.0) -> Tensor:
    """The force that goes ``way [..., 2]`` and brakes there."""
    return (10 * (way - 0.5 * speed)).clamp(-1, 1)


def to_each_its_own(landmarks: Tensor) -> Tensor:
    """The ways of three agents to three landmarks, the shortest in all: ``[N, 3, 3, 2]`` to ``[N, 3, 2]``."""
    orders = torch.tensor(list(itertools.permutations(range(3))), device=landmarks.device)
    far = landmarks.norm(dim=-1)  # [N, agent, landmark]
    order = orders[far[:, torch.arange(3), orders].sum(-1).argmin(-1)]
    return landmarks.gather(2, order[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]


def _spread(obs: Tensor) -> Tensor:
    return _push(to_each_its_own(obs[..., 4:10].unflatten(-1, (3, 2))), obs[..., :2])  # type: ignore[no-untyped-call]


def _compromise(obs: Tensor) -> Tensor:
    """Both to the landmark that is nearer from the middle between them."""
    own, theirs, middle = obs[..., 4:6], obs[..., 6:8], obs[..., 8:10] / 2
    nearer = (own - middle).norm(dim=-1) <= (theirs - middle).norm(dim=-1)
    return _push(torch.where(nearer[..., None], own, theirs), obs[..., :2])


def _chase(obs: Tensor) -> Tensor:
    """Straight to the prey."""
    return _push(obs[..., 6:8])


def _bounce(obs: Tensor) -> Tensor:
    """The line's middle under the ball, 0.2 high, slanted so that it mirrors the fall into the way to the target."""
    here, ball, target, other = obs[..., 2:4], obs[..., 4:6], obs[..., 6:8], obs[..., 8:10]
    under = torch.stack([ball[..., 0], 0.2 - here[..., 1]], -1)
    way = target - under
    normal = way / way.norm(dim=-1, keepdim=True) + torch.tensor([0.0, 1.0], device=obs.device)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    right = torch.stack([normal[..., 1], -normal[..., 0]], -1)
    side = torch.where(other[..., :1] < 0, 0.12, -0.12)
    return _push(under + side * right, obs[..., :2])


SCRIPTS = {"spread": _spread, "bounce": _bounce, "compromise": _compromise, "chase": _chase}
"""Observations ``[N, A, D]`` to actions ``[N, A, 2]`` by hand: what can be done at least."""
