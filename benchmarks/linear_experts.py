"""Demonstrators for ``imitation.py adversarial``: linear controllers found by random search, in a minute or two each.

Augmented random search (Mania, Guy and Recht, "Simple random search of static linear policies is competitive for
reinforcement learning", 2018, version V2-t): observations whitened by all that was seen, directions tried both ways, a
step along the best of them by the difference of their returns. As there, nothing is paid for being alive while it
searches.
"""

from typing import Any

import torch
from torch import Tensor

from cairn.envs import BatchEnv, make_batch

SETTINGS: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {"directions": 32, "best": 4, "rate": 0.02, "noise": 0.03, "alive": 0.0},
    "Hopper-v5": {"directions": 16, "best": 8, "rate": 0.02, "noise": 0.025, "alive": 1.0},
    "Walker2d-v5": {"directions": 40, "best": 30, "rate": 0.03, "noise": 0.025, "alive": 1.0},
}
"""As published, but for Hopper, which has 8 directions, 4 of them used, and a rate of 0.01 there."""
TRIALS = 4  # episodes of the present controller beside every step's


class Linear:
    """Actions ``weight [A, D]`` times whitened observations, within the bounds."""

    def __init__(self, weight: Tensor, centre: Tensor, unit: Tensor, high: Tensor) -> None:
        self.weight, self.centre, self.unit, self.high = weight, centre, unit, high

    def __call__(self, obs: Any, info: Any = None) -> Tensor:
        """Act on ``[B, D]``; of ``weight [B, A, D]`` each lane has its own."""
        seen = ((obs.double() - self.centre) / self.unit).clamp(-10, 10)
        acts = (self.weight @ seen[..., None])[..., 0]
        return torch.minimum(torch.maximum(acts, -self.high), self.high).float()


def search(task: str, steps: int, seed: int = 0) -> tuple[Linear, float]:
    """The controller with the best mean return of ``TRIALS`` episodes within ``steps`` steps, and that return."""
    given = SETTINGS[task.split("/")[-1]]
    n, alive = given["directions"], given["alive"]
    env = make_batch(task, 2 * n + TRIALS)
    space: Any = env.single_action_space
    high = torch.as_tensor(space.high, dtype=torch.float64)
    wide = env.single_observation_space.shape[0]  # type: ignore[index]
    draws = torch.Generator().manual_seed(seed)
    weight = torch.zeros(len(high), wide, dtype=torch.float64)
    facts = torch.zeros(3, wide, dtype=torch.float64)  # count, sum and sum of squares of what was seen
    found, best, lived, turn = Linear(weight, facts[1], torch.ones(wide), high), -torch.inf, 0, 0
    while lived < steps:
        ways = torch.randn(n, *weight.shape, generator=draws, dtype=torch.float64) * given["noise"]
        each = torch.cat([weight + ways, weight - ways, weight.expand(TRIALS, -1, -1)])
        count = facts[0].clamp(min=1)
        centre = facts[1] / count
        spread = (facts[2] / count - centre.square()).clamp(min=0).sqrt()
        unit = torch.where((spread > 1e-4) & (facts[0] > 1), spread, 1.0)
        total, length = _play(env, Linear(each, centre, unit, high), seed * 1_000_003 + turn, facts)
        lived, turn = lived + int(length.sum()), turn + 1
        mean = float(total[2 * n :].mean())
        if mean > best:
            found, best = Linear(weight, centre, unit, high), mean
        forth, back = (total - alive * length)[: 2 * n].chunk(2)
        chosen = torch.maximum(forth, back).topk(given["best"]).indices
        forth, back = forth[chosen], back[chosen]
        scale = torch.cat([forth, back]).std(unbiased=False).clamp(min=1e-6)
        step = ((forth - back)[:, None, None] * ways[chosen] / given["noise"]).mean(0) / scale
        weight = weight + given["rate"] * step
        if turn % 10 == 0:
            print(f"expert of {task}: {lived} steps, return {mean:.0f}, best {best:.0f}", flush=True)
    return found, best


def _play(env: BatchEnv, act: Linear, seed: int, facts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns and lengths ``[N]`` of every lane's first episode; what was seen is added to ``facts``."""
    obs, _ = env.reset(seed=seed)
    total, length = (torch.zeros(env.num_envs, dtype=torch.float64) for _ in range(2))
    going = torch.ones(env.num_envs, dtype=torch.bool)
    while bool(going.any()):
        seen = obs[going].double()
        facts += torch.stack([torch.full_like(facts[0], len(seen)), seen.sum(0), seen.square().sum(0)])
        obs, reward, terminated, truncated, _ = env.step(act(obs))
        total += torch.where(going, reward.double(), 0.0)
        length += going
        going = going & ~(terminated | truncated)
    return total, length
