"""MAMQL: multi-agent inverse Q-learning from demonstrations, one marginal critic for each agent.

Haynam et al., "Multi-agent inverse Q-learning from demonstrations", 2025. Agent i keeps a critic of its own actions
alone, Q_i(s, a_i), in which the others' actions are averaged over as the data has them. With the temperature T its
policy is softmax(Q_i / T), its value V_i = T logsumexp(Q_i / T), and the reward that explains the demonstrations r_i =
Q_i(s, a_i) - gamma V_i(s'), where V_i(s') is 0 after a termination. Each critic minimises IQ-Learn's loss
(``imitation/iq.py``); with the paper's settings, phi(x) = x - x^2 / 4 of the chi-square divergence:

    E_own[V_i(s) - gamma V_i(s')] - E_demonstrations[phi(r_i)]     with an environment (``values="own"``),
    (1 - gamma) E[V_i(s_0)]       - E_demonstrations[phi(r_i)]     without (``values="start"``).

Two baselines share all the rest: inverse Q-learning of one critic over joint actions (Garg et al., "IQ-Learn", 2021),
and behaviour cloning.
"""

from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor
from torch.nn import functional as F

from ...envs.multi.team import Joint
from ...shaping.adam import Adam
from ..base import arguments
from ..defaults import OffPolicySettings
from ..functional import categorical_sample
from ..imitation.iq import iq_loss
from ..imitation.iq_learn import InverseQ
from ..off_policy import SETTINGS
from ..policies import BatchPolicy
from ..ppo import Number
from ..q_policies import OffPolicyPolicy
from .networks import TeamMLP
from .off_policy import OffPolicyTeam

METHODS = ("marginal", "joint", "clone")


class MarginalPolicy(OffPolicyPolicy):
    """Critics of a team's discrete actions, and what is drawn by them.

    Args:
        observation_space: Box ``[A, D]``.
        action_space: Box ``[A, n]``: one-hots.
        lr_schedule: Learning rate as a function of the remaining progress, 1 to 0.
        net_arch: Widths of the hidden layers.
        joint: One critic for all combinations of actions, from all observations.
        temperature: Of the policy.
        penalty: Weight of the squared parameters.
    """

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        lr_schedule: Any,
        net_arch: tuple[int, ...] | list[int] = (128, 128),
        joint: bool = False,
        temperature: float = 1.0,
        penalty: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"MAMQL's policy has no setting {', '.join(map(repr, kwargs))}; it has net_arch")
        super().__init__(observation_space, action_space)
        (self.members, width), self.each = observation_space.shape, int(action_space.shape[1])
        self.joint, self.temperature = joint, temperature
        if joint:
            sizes = (self.members * width, *net_arch, self.each**self.members)
        else:
            sizes = (width, *net_arch, self.each)
        self.critic = TeamMLP(1 if joint else self.members, sizes)
        self.optimizer = Adam(self.critic.parameters(), lr_schedule(1), weight_decay=penalty)
        self._know_actions(action_space)

    def values(self, obs: Tensor) -> Tensor:
        """Q of all actions: ``[C, B, n]`` for ``obs [B, A, D]``; C is A (joint: 1), n the actions (joint: n^A)."""
        x = obs.float().flatten(1)[None] if self.joint else obs.float().transpose(0, 1)
        out: Tensor = self.critic(x)
        return out

    def soft_value(self, q: Tensor) -> Tensor:
        """V of values ``[..., n]``."""
        return self.temperature * torch.logsumexp(q / self.temperature, -1)

    def taken(self, action: Tensor) -> Tensor:
        """Which of a critic's actions the agents' ``[B, A]`` are, int64 ``[C, B]``."""
        return (action * self._places).sum(1)[None] if self.joint else action.t()

    def split(self, pick: Tensor) -> Tensor:
        """The agents' actions ``[B, A]`` of the critics' ``[C, B]``."""
        return pick[0][:, None] // self._places % self.each if self.joint else pick.t()

    @property
    def _places(self) -> Tensor:
        places: Tensor = self.each ** torch.arange(self.members, device=self.device)
        return places

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        q = self.values(observation) / self.temperature
        pick = q.argmax(-1) if deterministic else categorical_sample(q.log_softmax(-1))
        return (2.0 * F.one_hot(self.split(pick), self.each) - 1).flatten(1)


class MAMQL(InverseQ, OffPolicyTeam):
    """Multi-agent marginal inverse Q-learning, for teams with discrete actions that stay to the end.

    Steps are counted over environments. Offline the environment gives the spaces and is not acted in: a step is then
    what would have been lived between two updates.

    Args:
        policy: "MlpPolicy".
        env: The team.
        demonstrations: ``Demonstrations`` of the team as one row (``cairn collect`` makes them, and
            ``cairn.agents.data.collect`` in ``cairn.envs.multi.Joint(team)``), or the folder that they are in.
        reward: Not used: the reward is what is looked for.
        method: ``"marginal"``: MAMQL. ``"joint"``: one critic over all combinations of actions, from all observations.
            ``"clone"``: the same networks as MAMQL's, by maximum likelihood.
        online: Live in ``env`` as well. Cloning never does.
        values: Where E[V(s) - gamma V(s')] is estimated: on one's "own" states (the paper's, and None online), the
            "expert"'s, "all", or as (1 - gamma) V of the "start"s (the paper's, and None, offline).
        alpha: Of the chi-square part, r^2 / (4 alpha); 1 is the paper's.
        regularise_all: That part over one's own rows too, as IQ-Learn has it online.
        temperature: T.
        learning_rate: Of Adam, a number or a function of the remaining progress (1 to 0).
        gamma: Discount.
        buffer_size: Own transitions kept.
        learning_starts: Steps with random actions before the first update.
        batch_size: Rows of either kind in an update.
        train_freq: Steps of every environment between two updates.
        gradient_steps: Minibatches of an update.
        penalty: Weight of the squared parameters.
        max_grad_norm: Gradients longer than this are cut to it.
        stats_window_size: How many episodes the logged means are over.
        tensorboard_log: Folder for TensorBoard.
        policy_kwargs: ``net_arch``.
        verbose: 0 for silence, 1 for the log.
        seed: Of networks, draws and episodes.
        device: "auto" is the environments' own.
        _init_setup_model: False leaves the networks to be built later.

    Raises:
        TypeError: ``env`` has no agent axis.
        ValueError: A name is unknown, agents leave or do not act discretely, or the demonstrations are of another
            world.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MarginalPolicy}
    policy_base: ClassVar[type[BatchPolicy]] = MarginalPolicy
    chosen = (*SETTINGS, "learning_rate", "gamma")
    one = OffPolicySettings(16_600, learning_starts=0, batch_size=256, train_freq=8, gradient_steps=1)
    acts = False
    policy: MarginalPolicy

    def __init__(
        self,
        policy: str | type[MarginalPolicy],
        env: Any,
        demonstrations: Any = None,
        reward: Any = None,
        method: str = "marginal",
        online: bool = True,
        values: str | None = None,
        alpha: float = 1.0,
        regularise_all: bool = False,
        temperature: float = 1.0,
        learning_rate: Number = 1e-3,
        gamma: float = 0.99,
        buffer_size: int | None = None,
        learning_starts: int = 0,
        batch_size: int = 256,
        train_freq: int | None = None,
        gradient_steps: int | None = None,
        penalty: float = 1e-5,
        max_grad_norm: float = 10.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method={method!r}: it is one of {', '.join(METHODS)}")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: above 0")
        online = online and method != "clone"
        self._choose_objective(online, "chi2", values or ("own" if online else "start"), alpha, lagging=False)
        self._take_demonstrations(demonstrations)
        config = arguments(locals()) | {"demonstrations": self._of}
        fixed = {"tau": 1.0, "n_steps": 1, "replay_buffer_class": None, "replay_buffer_kwargs": None}
        super().__init__(config | fixed, self._joint(env), None, None)
        self._config = config  # what a saved model is built from
        self.method, self.regularise_all, self.max_grad_norm = method, regularise_all and online, max_grad_norm
        self.temperature, self.penalty = temperature, penalty
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        asked = dict(self.policy_kwargs)
        own = {"joint": self.method == "joint", "temperature": self.temperature, "penalty": self.penalty}
        self.policy_kwargs = {**asked, **own}
        super()._setup_model()
        self.policy_kwargs = asked
        batch = self.batch
        if isinstance(batch, Joint):  # demonstrations have the agents' choices as the world takes them
            self._know_demonstrations(self.observation_space, batch.team.single_action_space, self.seed)

    def recovered(self, obs: Tensor, action: Tensor, next_obs: Tensor, terminated: Tensor) -> Tensor:
        """The reward that explains what was done, ``[B, C]``: a critic's Q(s, a) - gamma V(s').

        A joint critic has one for the team, ``[B, 1]``.

        Args:
            obs: ``[B, A, D]``.
            action: Int64 ``[B, A]``, counted from 0.
            next_obs: ``[B, A, D]``.
            terminated: Bool ``[B]``.
        """
        q = self.policy.values(obs).gather(2, self.policy.taken(action)[..., None])[..., 0]
        ahead = self.policy.soft_value(self.policy.values(next_obs))
        return (q - self.gamma * ahead * (1 - terminated.float())).t()

    def inner_reward(self, obs: Any, action: Tensor, after: Any, terminated: Tensor) -> Tensor:
        """The reward of rows ``[B]``, summed over the critics; ``action [B, A n]`` as networks have it."""
        return self.recovered(obs, self._chosen_ones(action), after, terminated).sum(1)

    def _chosen_ones(self, action: Tensor) -> Tensor:
        return action.reshape(len(action), self.policy.members, self.policy.each).argmax(-1)

    def _rows(self, batch: Any, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Observations, choices, next observations, ends and who acted: the expert's rows, and online one's own."""
        x: Any = self.expert(rows)
        columns = [x.obs, x.action - self._first_action, x.next_obs, x.terminated.float()]
        expert = torch.ones(rows, dtype=torch.bool, device=self.device)
        if batch is not None:
            own = batch.observations, self._chosen_ones(batch.actions), batch.next_observations, batch.dones[:, 0]
            columns = [torch.cat(pair) for pair in zip(columns, own)]
            expert = torch.cat([expert, torch.zeros_like(own[3], dtype=torch.bool)])
        return columns[0], columns[1], columns[2], columns[3], expert

    def loss(
        self, obs: Tensor, action: Tensor, after: Tensor, ends: Tensor, expert: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The critics' losses on rows ``[B]``, summed over them, and their parts (means over them).

        Args:
            obs: ``[B, A, D]``.
            action: Int64 ``[B, A]``, counted from 0.
            after: The true next observations, ``[B, A, D]``.
            ends: 1.0 where the task ended, ``[B]``.
            expert: Bool ``[B]``: rows of the demonstrations.
            start: First observations ``[E, A, D]``, for ``values="start"``.
        """
        policy, rows = self.policy, len(obs)
        if self.method == "clone":
            logits = policy.values(obs) / self.temperature
            loss = F.cross_entropy(logits.flatten(0, 1), policy.taken(action).flatten())
            return loss * len(logits), {"likelihood": -loss.detach()}
        every = policy.values(torch.cat([obs, after] if start is None else [obs, after, start]))
        q = every[:, :rows].gather(2, policy.taken(action)[..., None])[..., 0]
        value = policy.soft_value(every).t()  # [2 B (+ E), C]
        loss, parts = iq_loss(
            q.t(), value[:rows], value[rows : 2 * rows], ends[:, None], expert, self.gamma, values=self.values,
            alpha=self.alpha, regularise_all=self.regularise_all, start=None if start is None else value[2 * rows :],
        )  # fmt: skip
        return loss * len(every), parts

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Learn from ``gradient_steps`` minibatches, half of whose rows are the expert's."""
        policy = self.policy
        policy.set_training_mode(True)
        self._set_rate(policy.optimizer)
        first, losses, noted = self._first(), [], []
        for batch in self._minibatches(gradient_steps, batch_size):
            start = None
            if first is not None and self.method != "clone":
                drawn = torch.randint(len(first), (batch_size,), generator=self._drawn)
                start = first[drawn.to(self.device)]
            loss, parts = self.loss(*self._rows(batch, batch_size), start)
            policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(policy.critic.parameters(), self.max_grad_norm)
            policy.optimizer.step()
            losses.append(loss.detach())
            noted.append(parts)
        self._n_updates += gradient_steps
        self._note(loss=losses, **{name: [parts[name] for parts in noted] for name in noted[0]})
