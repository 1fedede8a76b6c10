"""IQ-Learn on our DQN and SAC: one network is policy and reward; online beside a replay buffer, or offline.

Objective and sources are in ``iq.py``.
"""

from math import inf
from typing import Any

import torch
from torch import Tensor

from ...envs.spaces import tree_map
from ...shaping.stretch import Stretch
from ...shaping.term import Pure, Term
from ..dqn import DQN
from ..functional import categorical_sample
from ..off_policy import polyak, statistics
from ..sac import SAC
from .common import Imitator, network_action, with_settings_of_bases
from .iq import DIVERGENCES, VALUES, iq_loss, rest_reward, value_bound, what_follows

OWN = ("demonstrations", "online", "divergence", "values", "alpha", "lagging", "absorbing")


class InverseQ(Imitator):
    """What both share: settings, the two kinds of minibatch, living offline."""

    online: bool
    divergence: str
    values: str
    alpha: float
    lagging: bool
    absorbing: bool
    rest: Tensor
    """Value of the state after an end, ``[1]``."""

    def _choose_objective(
        self, online: bool, divergence: str, values: str | None, alpha: float, lagging: bool, absorbing: bool = False
    ) -> None:
        values = values or ("all" if online else "expert")
        if divergence not in DIVERGENCES or values not in VALUES or not alpha > 0:
            raise ValueError(
                f"divergence={divergence!r}, values={values!r}, alpha={alpha}: one of {', '.join(DIVERGENCES)}; one of "
                f"{', '.join(VALUES)}; above 0"
            )
        if not online and values in ("all", "own"):
            raise ValueError(f"values={values!r} needs the learner's own states: offline take 'expert' or 'start'")
        self.online, self.divergence, self.values, self.alpha, self.lagging = online, divergence, values, alpha, lagging
        self.absorbing = absorbing and divergence == "chi2"

    def _own_settings(self) -> dict[str, Any]:
        return {"demonstrations": self._of, **{name: getattr(self, name) for name in OWN[1:]}}

    def _rows(self: Any, batch: Any, rows: int) -> tuple[Any, Tensor, Any, Tensor, Tensor]:
        """Observations, actions, next observations, ends and who acted: the expert's rows, and online the learner's."""
        x = self.expert(rows)
        action = network_action(self.form, x.action)
        ends = x.terminated.float()
        mine = torch.ones(rows, dtype=torch.bool, device=self.device)
        if batch is None:
            return x.obs, action, x.next_obs, ends, mine
        both = lambda a, b: torch.cat([a, b])  # noqa: E731
        return (
            tree_map(both, x.obs, batch.observations),
            torch.cat([action, batch.actions]),
            tree_map(both, x.next_obs, batch.next_observations),
            torch.cat([ends, batch.dones[:, 0]]),
            torch.cat([mine, torch.zeros(len(batch.actions), dtype=torch.bool, device=self.device)]),
        )

    @torch.no_grad()
    def _look_at_ends(self: Any) -> dict[str, Any]:
        """What ends are worth, from how common they are in the demonstrations and among the learner's rows."""
        if not self.absorbing:
            return {}
        own: Any = 0.0
        if self.online:
            replay = self.replay_buffer
            own = replay.lived["terminated"][: min(replay.clock, replay.ring)].float().mean()
        shown = self.demos.terminated.float().mean().to(self.device)
        reward = rest_reward(shown, own, self.values, self.alpha, self.online)
        self.rest.fill_(reward / (1 - self.gamma) if self.gamma < 1 else 0.0)
        return {"rest": self.rest, "bound": value_bound(self.values, self.alpha, self.gamma)}

    def _after(self: Any, ahead: Tensor, terminated: Tensor) -> Tensor:
        """What follows a step, discounted, for the reward that the critic stands for."""
        bound = value_bound(self.values, self.alpha, self.gamma) if self.absorbing else inf
        return what_follows(ahead, terminated.float(), self.gamma, self.rest, bound)

    def _learned(self: Any) -> dict[str, Any]:
        learned: dict[str, Any] = super()._learned()  # type: ignore[misc]
        return {**learned, "rest": self.rest} if self.absorbing else learned

    def _minibatches(self: Any, count: int, rows: int) -> Any:
        """Learner's minibatches, or as many times None."""
        return self.replay_buffer.batches(count, rows) if self.online else [None] * count

    def _first(self: Any) -> Any:
        """First observations of the demonstrations, where the objective wants them."""
        if self.values != "start":
            return None
        return tree_map(lambda v: v.to(self.device), self.demos.first_states())

    def collect_rollouts(self: Any, callback: Any, log_interval: int | None = None) -> bool:
        """Online: live as every off-policy agent. Offline a "step" is what would have been lived between updates."""
        if self.online:
            return bool(super().collect_rollouts(callback, log_interval))  # type: ignore[misc]
        self._pending = False
        callback.on_rollout_start()
        self._lived = self.train_freq.frequency
        before = self.num_timesteps
        self.num_timesteps += self._lived * self.n_envs
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        for _ in range(self._lived):
            self._on_step()
        callback.update_locals({})
        going = bool(callback.on_step())
        callback.on_rollout_end()
        every = 1000
        if log_interval is not None and self.num_timesteps // every > before // every:
            self.dump_logs()
        return going

    def training_state(self: Any) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {**super().training_state(), "imitation": self._imitation_state()}  # type: ignore[misc]

    def load_training_state(self: Any, state: Any) -> None:
        """Put back what :meth:`training_state` gave."""
        super().load_training_state(state)  # type: ignore[misc]
        self._load_imitation_state(state["imitation"])

    def inner_reward(self, obs: Any, action: Tensor, after: Any, terminated: Tensor) -> Tensor:
        """The reward Q - gamma V(s') of rows ``[B]``, ``action`` as networks have it."""
        raise NotImplementedError

    def recovered_reward(self) -> "InverseReward":
        """The reward that the critic stands for, as a term of an expression. It follows the critic."""
        return InverseReward(self)


@with_settings_of_bases
class IQLearn(InverseQ, DQN):
    """IQ-Learn for discrete actions: the policy is the softmax of Q over the temperature.

    Args:
        policy: As DQN's.
        env: As DQN's; offline it gives the spaces and is not acted in.
        demonstrations: ``Demonstrations``, or the folder that they are in.
        online: Learn from the learner's own states too.
        divergence: "chi2", "kl", "js", "hellinger" or "tv".
        values: Where E[V(s) - gamma V(s')] is estimated: "expert", "all", "own" or "start"; None is "all" online,
            "expert" offline.
        alpha: Of the chi-square part.
        temperature: Of the policy: V = temperature logsumexp(Q / temperature).
        lagging: Take V(s') from the target network.
        absorbing: An episode that ends goes on in a state without end, whose value follows from how common ends are in
            the demonstrations and among one's own rows, and values are held within what they can be. Without it an end
            is worth 0, which is more than living on where one's own states are paid less than nothing. With "chi2".
        reward: Not used: the reward is what is looked for.
        kwargs: DQN's other settings. Exploration is by the policy itself.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        demonstrations: Any = None,
        online: bool = True,
        divergence: str = "chi2",
        values: str | None = None,
        alpha: float = 0.5,
        temperature: float = 0.01,
        lagging: bool = True,
        absorbing: bool = True,
        reward: Any = None,
        **kwargs: Any,
    ) -> None:
        self._choose_objective(online, divergence, values, alpha, lagging, absorbing)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: above 0")
        self.temperature = temperature
        self._take_demonstrations(demonstrations)
        defaults: dict[str, Any] = {"tau": 0.1, "target_update_interval": 1}
        super().__init__(policy, env, None, **{**defaults, **kwargs})
        self._config |= {**self._own_settings(), "temperature": temperature}

    def _setup_model(self) -> None:
        super()._setup_model()
        self.rest = torch.zeros(1, device=self.device)
        self._know_demonstrations(self.observation_space, self.action_space, self.seed)

    def _explore(self, obs: Any) -> Tensor:
        logits = self.q_net(obs) / self.temperature
        return categorical_sample(logits.log_softmax(-1))[:, None]

    def _on_step(self) -> None:
        super()._on_step()
        self.exploration_rate = 0.0  # the policy itself explores

    def soft_value(self, q: Tensor) -> Tensor:
        """V of values ``[B, A]``."""
        value: Tensor = self.temperature * torch.logsumexp(q / self.temperature, -1)
        return value

    def inner_reward(self, obs: Any, action: Tensor, after: Any, terminated: Tensor) -> Tensor:
        """The reward that Q stands for, by the target network where it is what learning takes."""
        q: Tensor = self.q_net(obs).gather(1, action)[:, 0]
        ahead = self.soft_value((self.q_net_target if self.lagging else self.q_net)(after))
        return q - self._after(ahead, terminated)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from ``gradient_steps`` minibatches, half of whose rows are the expert's."""
        self.policy.set_training_mode(True)
        self._set_rate(self.policy.optimizer)
        first, ends_at, losses, noted = self._first(), self._look_at_ends(), [], []
        for batch in self._minibatches(gradient_steps, batch_size):
            obs, action, after, ends, expert = self._rows(batch, batch_size)
            values = self.q_net(obs)
            if self.lagging:
                with torch.no_grad():
                    ahead = self.soft_value(self.q_net_target(after))
            else:
                ahead = self.soft_value(self.q_net(after))
            loss, parts = iq_loss(
                values.gather(1, action)[:, 0], self.soft_value(values), ahead, ends, expert, self.gamma,
                divergence=self.divergence, values=self.values, alpha=self.alpha, regularise_all=self.online,
                start=None if first is None else self.soft_value(self.q_net(first)), **ends_at,
            )  # fmt: skip
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self._nets[0], self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.detach())
            noted.append(parts)
        self._n_updates += gradient_steps
        self._note(loss=losses, **{name: [parts[name] for parts in noted] for name in noted[0]})


@with_settings_of_bases
class IQLearnSAC(InverseQ, SAC):
    """IQ-Learn for continuous actions: SAC's actor follows critics that learn by IQ-Learn's objective.

    Args:
        policy: As SAC's.
        env: As SAC's; offline it gives the spaces and is not acted in.
        demonstrations: ``Demonstrations``, or the folder that they are in.
        online: Learn from the learner's own states too.
        divergence: As ``IQLearn``'s.
        values: Likewise.
        alpha: Likewise.
        lagging: Take V(s') from the target critics.
        absorbing: As ``IQLearn``'s.
        ent_coef: As SAC's; a fixed small one is IQ-Learn's own choice.
        reward: Not used: the reward is what is looked for.
        kwargs: SAC's other settings.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        demonstrations: Any = None,
        online: bool = True,
        divergence: str = "chi2",
        values: str | None = None,
        alpha: float = 0.5,
        lagging: bool = True,
        absorbing: bool = True,
        ent_coef: float | str = 0.01,
        reward: Any = None,
        **kwargs: Any,
    ) -> None:
        self._choose_objective(online, divergence, values, alpha, lagging, absorbing)
        self._take_demonstrations(demonstrations)
        super().__init__(policy, env, None, ent_coef=ent_coef, **kwargs)
        self._config |= self._own_settings()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.rest = torch.zeros(1, device=self.device)
        self._know_demonstrations(self.observation_space, self.action_space, self.seed)

    def _temperature_now(self) -> Tensor:
        fixed = self.ent_coef_optimizer is None
        return self.ent_coef_tensor if fixed else self.log_ent_coef.detach().exp()

    def _soft_value(self, critic: Any, obs: Any) -> Tensor:
        """V(s) ``[2, B]`` of each critic, from one draw of the actor (which gets no gradient)."""
        with torch.no_grad():
            action, log_prob = self.actor.action_log_prob(obs)
        values = torch.cat(critic(obs, action), 1).T
        return values - self._temperature_now() * log_prob.reshape(1, -1)

    def inner_reward(self, obs: Any, action: Tensor, after: Any, terminated: Tensor) -> Tensor:
        """The reward that the mean of the critics stands for."""
        q: Tensor = torch.cat(self.critic(obs, action), 1).mean(1)
        ahead = self._soft_value(self.critic_target if self.lagging else self.critic, after).mean(0)
        return q - self._after(ahead, terminated)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Learn from ``gradient_steps`` minibatches, half of whose rows are the expert's."""
        self.policy.set_training_mode(True)
        actor, critic, tuner = self.actor, self.critic, self.ent_coef_optimizer
        self._set_rate(actor.optimizer, critic.optimizer, *([] if tuner is None else [tuner]))
        first, ends_at, losses, actor_losses, noted = self._first(), self._look_at_ends(), [], [], []
        for step, batch in enumerate(self._minibatches(gradient_steps, batch_size)):
            obs, action, after, ends, expert = self._rows(batch, batch_size)
            q, value = torch.cat(critic(obs, action), 1).T, self._soft_value(critic, obs)
            if self.lagging:
                with torch.no_grad():
                    ahead = self._soft_value(self.critic_target, after)
            else:
                ahead = self._soft_value(critic, after)
            starts = [None] * len(q) if first is None else list(self._soft_value(critic, first))
            each = [
                iq_loss(
                    q[i], value[i], ahead[i], ends, expert, self.gamma, divergence=self.divergence, values=self.values,
                    alpha=self.alpha, regularise_all=self.online, start=starts[i], **ends_at,
                )
                for i in range(len(q))
            ]  # fmt: skip
            loss = torch.stack([one for one, _ in each]).mean()
            critic.optimizer.zero_grad()
            torch.autograd.backward(loss)
            critic.optimizer.step()

            drawn, log_prob = actor.action_log_prob(obs)
            log_prob = log_prob.reshape(-1, 1)
            if tuner is not None:
                tuning = -(self.log_ent_coef * (log_prob.detach() + self.target_entropy)).mean()
                tuner.zero_grad()
                torch.autograd.backward(tuning)
                tuner.step()
            opinion = torch.cat(critic(obs, drawn), 1).amin(1, keepdim=True)
            actor_loss = (self._temperature_now() * log_prob - opinion).mean()
            actor.optimizer.zero_grad()
            torch.autograd.backward(actor_loss, inputs=self._of_actor)
            actor.optimizer.step()
            if step % self.target_update_interval == 0:
                polyak(*self._nets, self.tau)
                if statistics(critic):
                    polyak(*self._stats, 1.0)
            losses.append(loss.detach())
            actor_losses.append(actor_loss.detach())
            noted.append(each[0][1])
        self._n_updates += gradient_steps
        self._note(
            critic_loss=losses, actor_loss=actor_losses,
            **{name: [parts[name] for parts in noted] for name in noted[0]},
        )  # fmt: skip


class InverseReward(Pure):
    """The reward that an IQ-Learn model's critic stands for, as a pure term.

    Args:
        model: An ``IQLearn`` or ``IQLearnSAC``; the reward is that of its networks at the time of asking.
    """

    def __init__(self, model: InverseQ) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> "InverseReward":
        """A copy asks the same model."""
        return InverseReward(self.model)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward Q - gamma V(s') of each row."""
        model: Any = self.model
        rows = x.flat()
        good = rows.valid
        flat = rows[good]
        out = torch.zeros(len(rows.valid), device=x.device)
        if len(flat.valid):
            action = network_action(model.form, flat.action)  # type: ignore[arg-type]
            out = out.masked_scatter(good, model.inner_reward(flat.obs, action, flat.next_obs, flat.terminated))
        return out.reshape(x.shape)

    @classmethod
    def examples(cls) -> list[Term]:
        """None: it needs a model."""
        return []
