"""What tabular learners share: lanes that are runs of their own, records of episodes, prediction, saving."""

from collections.abc import Callable
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.batch import BatchEnv, check_like
from ..envs.bridges import make_batch
from ..envs.tabular.draws import lane_keys, uniform
from ..runs import CheckpointError, read_checkpoint, write_checkpoint
from ..shaping.checks import check_shaping
from ..shaping.reward import RewardError
from ..shaping.seats_env import ShapedBatch
from ..shaping.stretch import Stretch

_AGENT_SEED = 0x5EED  # keeps the draws of exploration apart from the environments', which hash the bare seed


class TabularAgent:
    """What the three learners share: lanes, seeds, records of episodes, prediction, saving.

    Args:
        env: A ``BatchEnv`` with Discrete observations and actions, or what ``make_batch`` turns into one.
        gamma: The discount.
        reward: A reward expression (a term, text, a function of a ``Stretch``) in place of the task's reward.
        seed: Of the environments and of exploration.

    Raises:
        TypeError: The observations or the actions are not Discrete.
    """

    def __init__(
        self, env: BatchEnv | gym.Env[Any, Any] | str, *, gamma: float = 0.99, reward: Any = None, seed: int = 0
    ) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma={gamma}: a discount is between 0 and 1")
        batch = env if isinstance(env, BatchEnv) else make_batch(env)
        for what, space in (("observations", batch.single_observation_space), ("actions", batch.single_action_space)):
            if not isinstance(space, spaces.Discrete) or space.start != 0:
                raise TypeError(
                    f"a table needs {what} numbered from 0, and the environment has {space}; wrap it so that it "
                    "numbers them, or take a learner with a network, such as cairn.agents.PPO"
                )
        self.env: BatchEnv = batch if reward is None else ShapedBatch(batch, reward, gamma=gamma, seed=seed)
        check_shaping(self.env, gamma)
        self.gamma, self.seed = gamma, seed
        self.lanes, self.device = batch.num_envs, batch.device
        self.states = int(batch.single_observation_space.n)  # type: ignore[attr-defined]
        self.actions = int(batch.single_action_space.n)  # type: ignore[attr-defined]
        self.steps = 0
        """Steps that each lane has taken."""
        self._lane = torch.arange(self.lanes, device=self.device)
        self._keys = lane_keys(seed ^ _AGENT_SEED, self.lanes, self.device)
        self._obs: Tensor | None = None
        self._facts: dict[str, Tensor] = {}
        self._start = torch.ones(self.lanes, dtype=torch.bool, device=self.device)
        self._open = torch.zeros(3, self.lanes, dtype=torch.float64, device=self.device)  # number, return, length
        self._ended: list[Tensor] = []

    def learn(self, steps: int, callback: Callable[[Self], Any] | None = None) -> Self:
        """Take ``steps`` steps in every lane, learning from each.

        Args:
            steps: Steps of each lane (``steps * lanes`` of the environments).
            callback: Called with the agent after each step; learning stops where it returns False.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"learn(steps={steps!r}): a number of steps of each lane, at least 1")
        if self._obs is None:
            obs, info = self.env.reset(seed=self.seed)
            self._obs, self._facts = obs.clone(), dict(info.get("facts", {}))
            self._start_learning(self._obs)
        for _ in range(steps):
            self._step()
            if callback is not None and callback(self) is False:
                break
        return self

    def _step(self) -> None:
        obs = self._obs
        assert obs is not None
        action = self._act(obs)
        after, reward, terminated, truncated, info = self.env.step(action)
        done = info["_final_obs"]
        x = Stretch(
            obs=obs, action=action, reward=reward, next_obs=torch.where(done, info["final_obs"], after),
            terminated=terminated, truncated=truncated, start=self._start,
            valid=info.get("valid", torch.ones_like(done)),
            lane=self._lane, episode=self._open[0].long(), t=self._open[2].long(), facts=self._facts,
            next_facts=_next_facts(info, done),
        )  # fmt: skip
        if not bool(torch.isfinite(reward).all()):
            lane = int((~torch.isfinite(reward)).nonzero()[0, 0])
            raise RewardError(
                f"the environment's reward is {float(reward[lane])} in environment {lane}, episode "
                f"{int(self._open[0, lane])}, step {int(self._open[2, lane])}; nothing was learned from it"
            )
        self.steps += 1
        self._obs, self._facts, self._start = after.clone(), dict(info.get("facts", {})), done
        self._learn(x)
        self._record(info.get("task_reward", reward), done)

    def _record(self, reward: Tensor, done: Tensor) -> None:
        self._open[1] += reward
        self._open[2] += 1
        if bool(done.any()):
            number, total, length = self._open[:, done]
            step = torch.full_like(number, self.steps)
            self._ended.append(torch.stack([step, self._lane[done].double(), number, total, length]))
            self._open[0] += done
            self._open[1:, done] = 0.0

    @property
    def episodes(self) -> dict[str, Tensor]:
        """Every episode that has ended, in order, each column ``[E]``.

        ``step`` of its lane at the end, ``lane``, ``episode`` (its number in the lane), ``reward`` (the task's return,
        undiscounted) and ``length``.
        """
        rows = torch.cat(self._ended, 1) if self._ended else torch.zeros(5, 0, dtype=torch.float64, device=self.device)
        names = ("step", "lane", "episode", "reward", "length")
        return {name: row if name == "reward" else row.long() for name, row in zip(names, rows)}

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        lane: int | None = None,
    ) -> tuple[Any, Any]:
        """The actions for observations, by the tables as they are.

        Args:
            obs: One state, answered by lane 0's table, or N of them, each by its own lane's.
            state: Returned as it is.
            episode_start: Ignored.
            deterministic: The best action (the first of several); else as when learning, but for ties.
            lane: Whose table answers, for all.
        """
        at = torch.as_tensor(np.asarray(obs) if not isinstance(obs, Tensor) else obs, device=self.device).long()
        flat = at.reshape(-1)
        if lane is None and flat.numel() not in (1, self.lanes):
            raise ValueError(f"{flat.numel()} observations for {self.lanes} lanes: say whose table answers with lane=")
        rows = torch.full_like(flat, lane or 0) if lane is not None or flat.numel() == 1 else self._lane
        probs = self.policy(deterministic)[rows, flat]
        action = probs.argmax(-1) if deterministic else torch.multinomial(probs, 1)[:, 0]
        if isinstance(obs, Tensor):
            return action.reshape(at.shape), state
        return (np.int64(action.item()) if at.ndim == 0 else action.cpu().numpy().reshape(at.shape)), state

    def policy(self, deterministic: bool = False) -> Tensor:
        """Probabilities of the actions, float64 ``[N, S, A]``: as when learning, or of the best action alone."""
        raise NotImplementedError

    def _act(self, obs: Tensor) -> Tensor:
        raise NotImplementedError

    def _learn(self, x: Stretch) -> None:
        raise NotImplementedError

    def _start_learning(self, obs: Tensor) -> None:
        pass

    def _draws(self, width: int, first: int = 1) -> Tensor:
        """Uniform numbers of this step, ``[N, width]``; ``first`` is their place among the step's draws."""
        counter = self.steps * (self.actions + 2) + torch.arange(first, first + width, device=self.device)
        return uniform(self._keys[:, None], counter)

    def _greedy_or_not(self, values: Tensor, epsilon: float) -> Tensor:
        """Epsilon-greedy on values ``[N, A]``; ties are broken evenly."""
        draws = self._draws(self.actions + 2)
        best = torch.where(values == values.amax(-1, keepdim=True), draws[:, 2:], -1.0).argmax(-1)
        other = (draws[:, 1] * self.actions).long()
        return torch.where(draws[:, 0] < epsilon, other, best)

    def tables(self) -> dict[str, Tensor]:
        """What has been learned, by name."""
        raise NotImplementedError

    def training_state(self) -> dict[str, Any]:
        """Everything that the next step depends on; after ``load_training_state`` learning goes on as if unbroken."""
        if self._obs is None:
            raise RuntimeError("nothing has been learned yet: there is no training state before learn()")
        own = {"obs": self._obs, "start": self._start, "open": self._open, "keys": self._keys}
        return {
            "tables": {name: value.clone() for name, value in self.tables().items()},
            "own": {name: value.clone() for name, value in own.items()},
            "facts": {name: value.clone() for name, value in self._facts.items()},
            "steps": self.steps,
            "env": self.env.state_dict(),
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Put back what ``training_state`` gave. The record of episodes begins anew."""
        check_like(state["tables"], self.tables(), type(self).__name__)
        self.env.load_state_dict(state["env"])
        for name, value in self.tables().items():
            value.copy_(state["tables"][name])
        own = {name: value.to(self.device).clone() for name, value in state["own"].items()}
        self._obs, self._start, self._open, self._keys = own["obs"], own["start"], own["open"], own["keys"]
        self._facts = {name: value.to(self.device).clone() for name, value in state["facts"].items()}
        self.steps, self._ended = state["steps"], []

    def save(self, path: str) -> None:
        """Write the tables to a new directory; ``load`` reads them into an agent that is made alike."""
        write_checkpoint(path, {"agent": type(self).__name__}, {"tables": self.tables()})

    def load(self, path: str) -> Self:
        """Read the tables that ``save`` wrote.

        Raises:
            CheckpointError: The directory is damaged or of another kind of agent.
            ValueError: The tables have other sizes.
        """
        meta, state = read_checkpoint(path)
        if meta.get("agent") != type(self).__name__ or not isinstance(state, dict) or set(state) != {"tables"}:
            raise CheckpointError(f"{path} has the tables of {meta.get('agent')!r}, not of {type(self).__name__}")
        check_like(state["tables"], self.tables(), type(self).__name__)
        for name, value in self.tables().items():
            value.copy_(state["tables"][name])
        return self


def _next_facts(info: dict[str, Any], done: Tensor) -> dict[str, Tensor]:
    """Facts of the true next states, ends included."""
    final = info.get("final_facts", {})
    return {
        name: torch.where(done.reshape(-1, *[1] * (now.ndim - 1)), final[name], now) if name in final else now
        for name, now in info.get("facts", {}).items()
    }
