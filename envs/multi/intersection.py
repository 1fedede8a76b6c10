"""Four cars at a crossing: highway-env's multi-agent intersection as a batch with an agent axis (extra ``bench``).

The third domain of Haynam et al., "Multi-agent inverse Q-learning from demonstrations", 2025, with its payments; the
simulator is that of Leurent, "An environment for autonomous driving decision-making", 2018. Two things are otherwise:
each car has its own way through the crossing, drawn for every episode (in the paper's code all leave on one road), and
sees where the others are heading, without which nobody could know who is in whose way.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .bridge import PettingZooBatch

CARS, SLOWER, IDLE, FASTER = 4, 0, 1, 2
FEATURES = ("presence", "x", "y", "vx", "vy", "cos_h", "sin_h", "cos_d", "sin_d")
CONFIG: dict[str, Any] = {
    "observation": {
        "type": "MultiAgentObservation",
        "observation_config": {
            "type": "Kinematics",
            "vehicles_count": CARS,
            "features": list(FEATURES),
            "features_range": {"x": [-100, 100], "y": [-100, 100], "vx": [-20, 20], "vy": [-20, 20]},
            "absolute": True,
            "order": "sorted",
            "observe_intentions": True,
        },
    },
    "initial_vehicle_count": 0,
    "spawn_probability": 0.0,
    "controlled_vehicles": CARS,
    "destination": None,
    "collision_reward": -4,
    "high_speed_reward": 0,
    "arrived_reward": 2,
}


class Crossing:
    """One intersection in PettingZoo's parallel form, for ``PettingZooBatch``; all cars come and leave together."""

    metadata: Mapping[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None, max_episode_steps: int | None = None) -> None:
        try:
            from highway_env.envs.intersection_env import MultiAgentIntersectionEnv
        except ImportError as error:
            raise ImportError("cairn/Intersection-v0 needs highway-env: pip install 'cairn-rl[bench]'") from error
        self.env: Any = MultiAgentIntersectionEnv(config=CONFIG, render_mode=render_mode)
        self.unwrapped, self.render_mode = self, render_mode
        own = int(self.env.config["duration"] * self.env.config["policy_frequency"])
        self.max_cycles = own if max_episode_steps is None else min(own, max_episode_steps)
        self.possible_agents = [f"car_{a}" for a in range(CARS)]
        self.agents: list[str] = []
        self.facts = {"crashed": False, "arrived": 0, "success": False}

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """All cars, the car itself first and the others by distance: ``FEATURES`` of each, flattened."""
        return spaces.Box(-2, 2, (CARS * len(FEATURES),), np.float32)

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Slower, as it is, faster."""
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Put the cars onto their roads, with a way each: right, straight on or left."""
        self.env.reset(seed=seed)
        for road, car in enumerate(self.env.controlled_vehicles):
            car.plan_route_to(f"o{(road + int(self.env.np_random.integers(1, CARS))) % CARS}")
        self.agents, self._t = list(self.possible_agents), 0
        self._tell()
        return self._seen(self.env.observation_type.observe()), dict.fromkeys(self.agents, {})

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Drive for a second; it ends when two touch, when all have crossed, or by the clock."""
        seen, _, terminated, truncated, info = self.env.step(tuple(int(actions[name]) for name in self.possible_agents))
        self._t += 1
        self._tell()
        truncated = (truncated or self._t >= self.max_cycles) and not terminated
        names = self.possible_agents
        paid = dict(zip(names, (float(own) for own in info["agents_rewards"])))
        self.agents = [] if terminated or truncated else list(names)
        ends = dict.fromkeys(names, bool(terminated)), dict.fromkeys(names, bool(truncated))
        return self._seen(seen), paid, *ends, dict.fromkeys(names, {})

    def _seen(self, rows: Any) -> dict[str, Any]:
        flat = (np.clip(np.ravel(row), -2, 2).astype(np.float32) for row in rows)
        return dict(zip(self.possible_agents, flat))

    def _tell(self) -> None:
        cars = self.env.controlled_vehicles
        arrived = sum(bool(self.env.has_arrived(car)) for car in cars)
        crashed = any(bool(car.crashed) for car in cars)
        self.facts = {"crashed": crashed, "arrived": arrived, "success": arrived == len(cars) and not crashed}

    def render(self) -> Any:
        """A picture from above."""
        return self.env.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self.env.close()


class Intersection(PettingZooBatch):
    """N crossings with four cars each; actions are slower, as it is, faster (0, 4.5 and 9 m/s), once a second.

    A car that has crossed is paid 2 a second, one that has touched another -4. An episode terminates when two have
    touched or all have crossed, and is truncated after 13 seconds. The facts ``crashed`` and ``arrived`` (how many)
    say how it stands; ``success`` is that all have crossed.

    Args:
        num_envs: N; they are stepped one after the other, some 30 a second.
        device: Where the tensors go.
        kwargs: ``render_mode``, ``max_episode_steps``.
    """

    agents_leave = False

    def __init__(self, num_envs: int, *, device: torch.device | str = "cpu", **kwargs: Any) -> None:
        super().__init__(Crossing, num_envs, device=device, **kwargs)

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every crossing once."""
        self._ends: dict[int, dict[str, Any]] = {}
        *out, info = super().step(actions)
        final = [self._ends.get(lane, team.facts) for lane, team in enumerate(self.teams)]
        return *out, {**info, "final_facts": self._facts(final)}  # type: ignore[return-value]

    def _live(self, lane: int, row: Any) -> None:
        super()._live(lane, row)
        if not self._alive[lane].any():
            self._ends[lane] = self.teams[lane].facts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Act the saved episodes out again."""
        self._ends = {}
        super().load_state_dict(state)

    def observe(self) -> tuple[Tensor, dict[str, Any]]:
        """The present observation and facts."""
        obs, info = super().observe()
        return obs, {**info, "facts": self._facts([team.facts for team in self.teams])}

    def _facts(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.tensor([row[name] for row in rows], device=self.device) for name in rows[0]}


class OneIntersection(gym.Env[Any, Any]):
    """One crossing, steered by one agent that sees what all see and is paid what all are paid together."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, **kwargs: Any) -> None:
        self.crossing = Crossing(**kwargs)
        self.render_mode = self.crossing.render_mode
        each = self.crossing.observation_space("")
        low, high = (np.stack([edge] * CARS) for edge in (each.low, each.high))  # type: ignore[attr-defined]
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.MultiDiscrete([3] * CARS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        own = int(self.np_random.integers(1 << 31))
        obs, _ = self.crossing.reset(seed=own)
        return np.stack(list(obs.values())), {"facts": dict(self.crossing.facts)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drive for a second."""
        names = self.crossing.possible_agents
        obs, paid, terminated, truncated, _ = self.crossing.step(dict(zip(names, np.asarray(action).tolist())))
        own = np.array([paid[name] for name in names], np.float32)
        facts = dict(self.crossing.facts)
        info = {"facts": facts, "success": facts["success"], "agent_reward": own}
        return np.stack(list(obs.values())), float(own.sum()), terminated[names[0]], truncated[names[0]], info

    def render(self) -> Any:
        """A picture from above."""
        return self.crossing.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self.crossing.close()


def make(**kwargs: Any) -> OneIntersection:
    """What ``gym.make`` calls."""
    return OneIntersection(**kwargs)


def make_vec(num_envs: int, **kwargs: Any) -> Intersection:
    """What ``gym.make_vec`` calls."""
    return Intersection(num_envs, **kwargs)


def give_way(env: Intersection, gap: float = 6.0, slack: float = 0.5) -> Any:
    """A scripted driver for each car, as an actor of ``cairn.agents.data.collect``.

    The car that is nearest to the crossing goes first. Each of the others drives on if its way at full speed keeps
    ``gap`` metres from those that go, give or take ``slack`` seconds, and else slows down.
    """
    times = np.arange(0, 8, 0.25)
    apart = np.abs(times[:, None] - times) <= slack

    def ahead(car: Any) -> Any:
        """Where it will be at full speed, ``[T, 2]``."""
        speed, car.speed = car.speed, 9.0
        try:
            return np.array(car.predict_trajectory_constant_speed(times)[0])
        finally:
            car.speed = speed

    def to_go(car: Any) -> float:
        before = car.lane_index[1].startswith("ir")
        return float(car.lane.length - car.lane.local_coordinates(car.position)[0]) if before else 0.0

    def drive(crossing: Any) -> list[int]:
        cars = crossing.env.controlled_vehicles
        acts = [FASTER] * CARS
        going: list[Any] = []
        for a in sorted(range(CARS), key=lambda a: (to_go(cars[a]), a)):
            if crossing.env.has_arrived(cars[a]):
                continue
            path = ahead(cars[a])
            if any((np.linalg.norm(path[:, None] - other, axis=-1)[apart] < gap).any() for other in going):
                acts[a] = SLOWER
            else:
                going.append(path)
        return acts

    return lambda obs, info=None: torch.tensor([drive(team) for team in env.teams], device=env.device)
