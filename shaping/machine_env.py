"""A task given by a reward machine, and the counterfactual experience that it makes possible."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.batch import BatchEnv
from ..envs.single_env import single_space
from ..envs.spaces import encode
from .machine_batch import MachineBatch
from .machine_space import KEY, with_state
from .machines import RewardMachine
from .stretch import Stretch, Tree
from .term import Source, World


class MachineEnv(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """An environment whose task is a reward machine's; given a ``BatchEnv``, a batch of them (``MachineBatch``).

    The observation shows the machine's state, so that the task is Markov for any agent.

    The environment's own reward is dropped, as in the paper; it is in ``info["env_reward"]``. Reaching a final state
    terminates. The observation: a one-dimensional Box gets the state one-hot at its end, a Discrete space of n becomes
    one of ``n * U`` (``obs * U + state``), a Dict gets the part "machine".

    ``info["facts"]`` has the facts of the new state, with ``machine`` (its state), ``letter`` (the labels that held)
    and ``env_terminated`` (whether the environment itself ended), which counterfactuals are made from;
    ``info["facts_before"]`` those of the state before.

    Args:
        env: The environment.
        machine: The task.
        facts: Function of the unwrapped environment to a dict of numbers and arrays; left out, ``info["facts"]``.
    """

    def __new__(cls, env: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Dispatch on what is wrapped."""
        if isinstance(env, BatchEnv):
            return MachineBatch(env, *args, **kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        env: gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any],
        machine: RewardMachine,
        facts: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        if not isinstance(env, gym.Env):
            raise TypeError(
                f"MachineEnv wraps a Gymnasium environment or a BatchEnv, and got {type(env).__name__}; "
                "cairn.envs.make_batch turns a vector environment into a BatchEnv"
            )
        gym.utils.RecordConstructorArgs.__init__(self, machine=machine, facts=facts)
        gym.Wrapper.__init__(self, env)
        self.machine, self.facts_of = machine, facts
        self.inner_space = single_space(env)
        self.observation_space = with_state(env.observation_space, len(machine))
        self.now, self.episode, self.facts = 0, -1, dict[str, Any]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in the initial state."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.episode += 1
        self.now = int(self.machine.first(torch.tensor(self.episode)))
        self.facts = {**self._facts(info), "machine": self.now, "letter": 0, "env_terminated": False}
        return self._show(obs), {**info, "facts": self.facts}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, then the machine."""
        obs, task_reward, terminated, truncated, info = self.env.step(action)
        facts = self._facts(info)
        if self.machine.on == "facts":
            seen: Any = {name: torch.as_tensor(np.asarray(value))[None] for name, value in facts.items()}
        else:
            seen = encode(self.inner_space, obs)
        letter = self.machine.letters(seen)
        state, reward = self.machine.step(torch.tensor([self.now]), letter)
        self.now = int(state)
        before = self.facts
        self.facts = {**facts, "machine": self.now, "letter": int(letter), "env_terminated": bool(terminated)}
        over = bool(terminated) or bool(self.machine.final[self.now])
        info = {**info, "facts": self.facts, "facts_before": before, "env_reward": task_reward}
        return self._show(obs), float(reward), over, truncated, info

    def _facts(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return dict(info.get("facts", {}) if self.facts_of is None else self.facts_of(self.env.unwrapped))

    def _show(self, obs: Any) -> Any:
        size = len(self.machine)
        if isinstance(self.env.observation_space, spaces.Discrete):
            return np.int64((int(obs) - int(self.env.observation_space.start)) * size + self.now)
        hot = np.eye(size, dtype=np.float32)[self.now]
        return {**obs, KEY: hot} if isinstance(obs, Mapping) else np.concatenate([obs, hot.astype(obs.dtype)])


class CounterfactualMachine:
    """Counterfactual experience (CRM): what every lived step would have been in each state of the machine.

    From each row come U: state u of the machine, its reward and its next state, the same environment step (Toro Icarte
    et al. 2022, section 4.1). Final states are left out: no step is made from them.
    """

    def __init__(self, machine: RewardMachine) -> None:
        self.machine = machine
        self.states = (~machine.final).nonzero()[:, 0]
        self.space: gym.Space[Any] | None = None

    def bind(self, world: World) -> None:
        """Learn where the state stands in the observation."""
        self.space = world.observation_space
        if isinstance(self.space, spaces.Dict) and KEY not in self.space.spaces:
            raise ValueError(f"the observation has no part {KEY!r}: wrap the environment in MachineEnv(env, machine)")

    def __call__(self, x: Stretch, source: Source | None = None) -> tuple[Stretch, Tensor]:
        """Map ``[B]`` to ``[U * B]``; the rows of state u stand together."""
        rows, states = x.rows[0], self.states.to(x.device)
        origin = torch.arange(rows, device=x.device).repeat(len(states))
        before = states.repeat_interleave(rows)
        letter = x.next_facts["letter"] if "letter" in x.next_facts else self.machine.letters_after(x)
        after, reward = self.machine.step(before, letter.long()[origin])
        y = x[origin]
        if "env_terminated" in x.next_facts:
            ended = y.next_facts["env_terminated"].bool()
        else:  # it ended by itself where the machine's own state does not explain the end
            ended = y.terminated & ~self.machine.final.to(x.device)[self.read(y.next_obs)]
        final = self.machine.final.to(x.device)[after]
        y = replace(
            y,
            obs=self.write(y.obs, before),
            next_obs=self.write(y.next_obs, after),
            reward=reward,
            terminated=ended | final,
            truncated=y.truncated & ~final,
            facts={**y.facts, "machine": before},
            next_facts={**y.next_facts, "machine": after},
        )
        return y, origin

    def read(self, obs: Tree) -> Tensor:
        """The machine's state in observations ``[B, ...]``."""
        if isinstance(obs, dict):
            return self.read(obs[KEY])
        if isinstance(self.space, spaces.Discrete):
            return obs.reshape(-1) % len(self.machine)
        return obs[..., -len(self.machine) :].argmax(-1)

    def write(self, obs: Tree, state: Tensor) -> Tree:
        """Observations ``[B, ...]`` with another state in them."""
        size = len(self.machine)
        if isinstance(obs, dict):
            return {**obs, KEY: self.write(obs[KEY], state)}
        if isinstance(self.space, spaces.Discrete):
            return (obs // size * size) + state.reshape(obs.shape).to(obs)
        hot = torch.nn.functional.one_hot(state, size).to(obs)
        return torch.cat([obs[..., :-size], hot], -1)
