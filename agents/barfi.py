"""BARFI: learn how to blend a hint with the task's reward, and the discount, while a policy learns from the blend.

Gupta, Chandak, Jordan, Thomas and da Silva, "Behavior Alignment via Reward Function Optimization", NeurIPS 2023. The
inner learner is REINFORCE on a differentiable policy: tables of preferences, or the network of a ``cairn.agents.PPO``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, cast

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.batch import BatchEnv
from ..envs.bridges import make_batch
from ..envs.spaces import tree_map
from ..shaping.barfi import Aligned, implicit_gradient
from ..shaping.checks import check_shaping
from ..shaping.reward import as_reward
from ..shaping.state import pack, unpack
from ..shaping.stretch import Stretch
from ..shaping.term import World


class Differentiable(Protocol):
    """All that BARFI asks of a policy."""

    runs: int
    """How many policies learn side by side; lane i belongs to run ``i // (lanes / runs)``."""

    def parameters(self) -> list[Tensor]:
        """What is learned; each requires a gradient."""
        ...

    def act(self, obs: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions for observations ``[N, ...]``: as the policy counts them, and as the environment takes them."""
        ...

    def log_prob(self, x: Stretch) -> Tensor:
        """Log-probability of the actions ``x.extra["drawn"]`` at ``x.obs``, ``[T, N]``, differentiable twice."""
        ...


class TablePolicy:
    """Softmax over preferences, a table for each run: what REINFORCE in ``tabular.py`` has.

    Args:
        runs: R, how many runs learn side by side.
        lanes: N, a multiple of R.
        states: S.
        actions: A.
    """

    def __init__(self, runs: int, lanes: int, states: int, actions: int) -> None:
        if runs < 1 or lanes % runs:
            raise ValueError(f"{lanes} environments cannot be shared out evenly among {runs} runs")
        self.runs, self.each = runs, lanes // runs
        self.theta = torch.zeros(runs, states, actions, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        """The preferences, ``[R, S, A]``."""
        return [self.theta]

    def policy(self) -> Tensor:
        """Probabilities, ``[R, S, A]``."""
        return torch.softmax(self.theta.detach(), -1)

    def act(self, obs: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw from the softmax."""
        run = torch.arange(len(obs)) // self.each
        with torch.no_grad():
            log_p = self.theta[run, obs].log_softmax(-1)
            draw = torch.rand(log_p.shape, generator=generator).clamp(min=1e-12)
            action = (log_p - (-draw.log()).log()).argmax(-1)
        return action, action

    def log_prob(self, x: Stretch) -> Tensor:
        """``[T, N]``."""
        run = torch.div(x.lane, self.each, rounding_mode="floor")
        log_p = self.theta[run, cast(Tensor, x.obs)].log_softmax(-1)
        return log_p.gather(-1, x.extra["drawn"][..., None])[..., 0]


class NetworkPolicy:
    """The actor of a PPO model (any space); what BARFI learns, the model's ``predict`` acts by.

    Args:
        model: A ``cairn.agents.PPO``.
    """

    runs = 1

    def __init__(self, model: Any) -> None:
        self.model = model
        critic = ("value_net", "vf_features_extractor", "mlp_extractor.value_net")
        named = model.policy.named_parameters()
        shared = bool(model.policy.share_features_extractor)
        skip = critic if not shared else (critic[0], critic[2])
        self._parameters = [p for name, p in named if not name.startswith(skip)]

    def parameters(self) -> list[Tensor]:
        """Those of the actor."""
        return list(self._parameters)

    def act(self, obs: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw from the policy's distribution."""
        seed = int(torch.randint(1 << 62, (), generator=generator))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            drawn = self.model.policy(obs)[0]
        return drawn, self.model.policy.executed(drawn)

    def log_prob(self, x: Stretch) -> Tensor:
        """``[T, N]``."""
        rows = x.flat()
        found: Tensor = self.model.policy.evaluate_actions(rows.obs, rows.extra["drawn"])[1]
        return found.reshape(x.rows)


class BARFI:
    """Bi-level learning of a reward ``phi_1 + phi_2 r_task + phi_3 r_aux`` and of a discount.

    The inner learner ascends ``E[sum_t log pi(a_t|s_t) G_t] - decay / 2 |theta|^2`` with ``G_t = sum_j gamma^(j-t)
    r_phi``; every ``inner`` such steps, on fresh episodes, the outer one ascends the task's return ``J(theta(phi,
    gamma)) - gamma_cost gamma`` in phi and gamma by the implicit gradient (``shaping.barfi.implicit_gradient``). Lanes
    are the episodes of a batch; with tables, ``runs`` of them learn side by side, each by itself. The mean return of
    the batch at each step is the baseline.

    Args:
        env: A ``BatchEnv`` that cuts its episodes, or what ``make_batch`` turns into one.
        auxiliary: The hint, a reward expression of pure terms or a function of a ``Stretch``; or an ``Aligned``.
        policy: A ``Differentiable`` policy, or a PPO model; None for tables.
        runs: R, of tables.
        gamma: The task's discount, and the first of the learned one.
        rate: Step size of the policy.
        decay: lambda_theta; it keeps the inner objective concave.
        reward_rate: Step size of phi; 0 for a blend that is not learned (the baselines).
        gamma_rate: Step size of the learned discount's logit; 0 leaves the discount as it is.
        gamma_cost: lambda_gamma.
        warmup: N_0, inner steps before the first outer one.
        inner: N_i, inner steps between outer ones.
        terms: n, where the Neumann series is cut off.
        neumann_rate: eta.
        optimiser: A torch optimiser for both levels, made from parameters and rate.
        seed: Of environments and actions.

    Attributes:
        policy: What acts.
        term: The ``Aligned`` reward.
        returns: The task's mean undiscounted return of each inner step's episodes, a list of ``[R]``.
    """

    def __init__(
        self,
        env: BatchEnv | gym.Env[Any, Any] | str,
        auxiliary: Any,
        policy: Any = None,
        *,
        runs: int = 1,
        gamma: float = 0.99,
        rate: float = 0.05,
        decay: float = 0.01,
        reward_rate: float = 0.05,
        gamma_rate: float = 0.0,
        gamma_cost: float = 0.0,
        warmup: int = 15,
        inner: int = 5,
        terms: int = 5,
        neumann_rate: float = 0.1,
        optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        seed: int = 0,
    ) -> None:
        self.env = env if isinstance(env, BatchEnv) else make_batch(env)
        if self.env.max_steps is None:
            raise ValueError("BARFI learns from whole episodes: give the environment a time limit (TimeLimit)")
        if not 0 < gamma < 1 and gamma_rate:
            raise ValueError(f"gamma={gamma}: a discount that is learned begins above 0 and below 1")
        if min(warmup, terms) < 0 or inner < 1 or neumann_rate <= 0 or decay < 0:
            raise ValueError(
                f"warmup={warmup}, inner={inner}, terms={terms}, neumann_rate={neumann_rate}, decay={decay}: counts "
                "from 0 (inner from 1), a rate above 0, a decay from 0"
            )
        lanes, space, actions = self.env.num_envs, self.env.single_observation_space, self.env.single_action_space
        if policy is None:
            if not isinstance(space, spaces.Discrete) or not isinstance(actions, spaces.Discrete):
                raise TypeError(f"a table needs numbered observations and actions, not {space} and {actions}: pass a "
                                "PPO model as policy")  # fmt: skip
            policy = TablePolicy(runs, lanes, int(space.n), int(actions.n))
        self.policy: Differentiable = policy if hasattr(policy, "log_prob") else NetworkPolicy(policy)
        self.runs = self.policy.runs
        check_shaping(self.env, gamma)
        self.term = auxiliary if isinstance(auxiliary, Aligned) else Aligned(auxiliary)
        self.term.runs = self.runs
        self.reward = as_reward(self.term)
        self.reward.bind(World(space, actions, lanes=lanes, max_steps=self.env.max_steps, gamma=gamma, seed=seed))
        self.gamma, self.decay, self.gamma_cost = float(gamma), decay, gamma_cost
        self.learns_reward, self.learns_gamma = reward_rate > 0, gamma_rate > 0
        self.warmup, self.inner, self.terms, self.neumann_rate = warmup, inner, terms, neumann_rate
        first = torch.logit(torch.full((self.runs,), float(gamma)), eps=1e-6)
        self.logit = first.requires_grad_()
        self.actor = optimiser(self.policy.parameters(), rate)
        groups = [{"params": self.term.parameters, "lr": reward_rate}, {"params": [self.logit], "lr": gamma_rate}]
        self.outer = optimiser(groups, reward_rate)
        self.generator = torch.Generator().manual_seed(seed)
        self.seed, self.steps, self.growth = seed, 0, 0.0
        """Inner steps that were taken."""
        self.returns: list[Tensor] = []
        self._begun = False

    @property
    def discount(self) -> Tensor:
        """The learned discount of each run, ``[R]``."""
        return torch.sigmoid(self.logit) if self.learns_gamma else torch.full((self.runs,), self.gamma)

    def learn(self, steps: int, callback: Callable[[Self], Any] | None = None) -> Self:
        """Take ``steps`` inner steps, and the outer ones that are due; the callback may end it by returning False."""
        for _ in range(steps):
            x = self.collect()
            self._ascend(self.actor, self.policy.parameters(), self._slope(self.objective(x, frozen=True)))
            self.steps += 1
            after = self.steps - self.warmup
            if after >= 0 and after % self.inner == 0 and (self.learns_reward or self.learns_gamma):
                self._outer(x)
            if callback is not None and callback(self) is False:
                break
        return self

    def collect(self) -> Stretch:
        """One episode in each lane, ``[T, N]``; what follows an episode's end is not valid."""
        obs, info = self.env.reset(seed=None if self._begun else self.seed)
        self._begun = True
        lanes = self.env.num_envs
        alive, rows = torch.ones(lanes, dtype=torch.bool), []
        facts = dict(info.get("facts", {}))
        lane = torch.arange(lanes)
        for t in range(int(self.env.max_steps or 0)):
            before, known = tree_map(torch.clone, obs), tree_map(torch.clone, facts)
            drawn, action = self.policy.act(before, self.generator)
            obs, reward, terminated, truncated, info = self.env.step(action)
            done, facts = info["_final_obs"], dict(info.get("facts", {}))
            valid = alive & info.get("valid", torch.ones_like(done))
            final = {**facts, **info.get("final_facts", {})}
            rows.append(
                Stretch(
                    obs=before, action=action, reward=reward, next_obs=_ended(done, info["final_obs"], obs),
                    terminated=terminated, truncated=truncated, start=torch.full_like(done, t == 0), valid=valid,
                    lane=lane, episode=torch.zeros_like(lane), t=torch.full_like(lane, t), facts=known,
                    next_facts=_ended(done, final, facts), extra={"drawn": drawn},
                ).map(lambda v: v.clone()[None])
            )  # fmt: skip
            alive = alive & ~(done & valid)
            if not bool(alive.any()):
                break
        x = Stretch.cat(rows)
        task = torch.where(x.valid, x.reward, 0.0).sum(0)
        self.returns.append(task.reshape(self.runs, -1).mean(1))
        return x

    def objective(self, x: Stretch, *, frozen: bool = False, task: bool = False) -> Tensor:
        """The sum over runs of the mean over episodes of ``sum_t log pi(a_t|s_t) (G_t - mean G_t)``, less the decay.

        Args:
            x: Episodes ``[T, N]``.
            frozen: Without a graph to phi and the discount.
            task: Of the task's reward and discount, without decay: its gradient in theta is that of J.
        """
        if task:
            reward, discount = torch.where(x.valid, x.reward, 0.0), torch.full((self.runs,), self.gamma)
        else:
            reward, discount = self.reward.evaluate(x)[self.term], self.discount
        if frozen:
            reward, discount = reward.detach(), discount.detach()
        gain = _advantage(reward, discount, x.valid, self.runs)
        log_p = torch.where(x.valid, self.policy.log_prob(x), 0.0)
        value = (log_p * gain).sum() / (x.rows[1] // self.runs)
        if not task and self.decay:
            squares = torch.stack([p.square().sum() for p in self.policy.parameters()]).sum()
            value = value - self.decay / 2 * squares
        return value

    def _outer(self, x: Stretch) -> None:
        """One step of phi and of the discount: H and A on the last inner episodes, dJ/dtheta on fresh ones."""
        slope = self._slope(self.objective(self.collect(), task=True))
        self.returns.pop()  # not an inner step's
        meta = ([*self.term.parameters] if self.learns_reward else []) + ([self.logit] if self.learns_gamma else [])
        found = implicit_gradient(
            self.objective(x), slope, self.policy.parameters(), meta, terms=self.terms, rate=self.neumann_rate
        )
        gradients, self.growth = found.gradients, found.growth
        if self.learns_gamma:
            cost = torch.autograd.grad(self.gamma_cost * self.discount.sum(), self.logit)[0]
            gradients = [*gradients[:-1], gradients[-1] - cost]
        self._ascend(self.outer, meta, gradients)

    def _slope(self, value: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(value, self.policy.parameters()))

    @staticmethod
    def _ascend(optimiser: torch.optim.Optimizer, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = -gradient
        optimiser.step()
        optimiser.zero_grad()

    def training_state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "theta": [p.detach().clone() for p in self.policy.parameters()],
            "reward": pack(self.reward.state()),
            "logit": self.logit.detach().clone(),
            "actor": pack(self.actor), "outer": pack(self.outer),
            "generator": self.generator.get_state(), "steps": self.steps, "env": self.env.state_dict(),
            "begun": self._begun,
        }  # fmt: skip

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Put back what ``training_state`` gave; the record of returns begins anew."""
        with torch.no_grad():
            for p, value in zip(self.policy.parameters(), state["theta"], strict=True):
                p.copy_(value)
            self.logit.copy_(state["logit"])
        self.reward.load(state["reward"])
        unpack(self.actor, state["actor"])
        unpack(self.outer, state["outer"])
        self.generator.set_state(state["generator"])
        self.env.load_state_dict(state["env"])
        self.steps, self._begun, self.returns = state["steps"], state["begun"], []


def _ended(done: Tensor, last: Any, now: Any) -> Any:
    """The true next tree: the last of what has ended, and what is now elsewhere."""
    if isinstance(now, dict):
        return {name: _ended(done, last[name], now[name]) for name in now}
    return torch.where(done.reshape(-1, *[1] * (now.dim() - 1)), last, now)


def _advantage(reward: Tensor, discount: Tensor, valid: Tensor, runs: int) -> Tensor:
    """``G_t`` less its mean over the run's episodes that have come to t, ``[T, N]``; differentiable in both."""
    steps, lanes = reward.shape
    ahead = torch.arange(steps) - torch.arange(steps)[:, None]
    powers = torch.where(ahead >= 0, discount[:, None, None] ** ahead.clamp(min=0), 0.0)  # [R, T, T]
    returns = powers @ reward.reshape(steps, runs, -1).transpose(0, 1)  # [R, T, B]
    there = valid.reshape(steps, runs, -1).transpose(0, 1).to(reward.dtype)
    mean = (returns * there).sum(-1, keepdim=True) / there.sum(-1, keepdim=True).clamp(min=1)
    return ((returns - mean) * there).transpose(0, 1).reshape(steps, lanes)
