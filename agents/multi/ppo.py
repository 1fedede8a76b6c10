"""PPO for teams: independent learners (IPPO), and a critic that sees what all see (MAPPO).

De Witt et al., "Is independent learning all you need in the StarCraft multi-agent challenge?", 2020, and Yu et al.,
"The surprising effectiveness of PPO in cooperative multi-agent games", 2022. A team's agents are lanes of one batch
(``envs.multi.AgentLanes``) and share one network, which their numbers tell apart: all else is ``agents.PPO``, reward
expressions (scored agent by agent), saving and resuming included. Steps are counted over all agents.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from ...envs.batch import BatchEnv
from ...envs.bridges import make_batch
from ...envs.multi.lanes import AgentLanes, agent_view
from ..functional import Ends
from ..policies import ActorCriticPolicy
from ..ppo import PPO

C = TypeVar("C", bound=type)


def signature_of(base: type, **own: Any) -> Callable[[C], C]:
    """Show a class with the constructor's arguments of ``base`` and then ``own``, name to default.

    ``cairn train --agent-args`` reads the names off the signature.
    """

    def decorate(cls: C) -> C:
        plain = inspect.signature(base)
        more = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in own.items()]
        cls.__signature__ = plain.replace(parameters=[*plain.parameters.values(), *more])  # type: ignore[attr-defined]
        return cls

    return decorate


@signature_of(PPO, ids=True)
class IPPO(PPO):
    """Independent PPO with shared parameters: each agent learns from what it sees, does and is paid itself.

    Agents that leave are left out from then on. ``predict`` takes a team's observations ``[A, ...]`` or a batch of
    teams' ``[B, A, ...]``, and gives an action for each agent. ``rollout/return/<agent>`` is logged for every agent.

    Args:
        policy: As for ``PPO``.
        env: A team: a batch with an agent axis, or the id of one.
        reward: As for ``PPO``; each agent's experience is scored by itself, in its own lane.
        ids: Append the agent's number to its observation (vectors only), so that agents can play different parts.
        kwargs: All other arguments of ``PPO``; ``n_steps`` and the like are resolved from the number of agents.

    Raises:
        TypeError: ``env`` has no agent axis.
        ValueError: ``ids`` with observations that are no vectors.
    """

    state_view: ClassVar[bool] = False  # whether the critic sees what all see
    members: int = 0
    names: tuple[str, ...] = ()

    def __init__(self, policy: Any, env: Any, reward: Any = None, *, ids: bool = True, **kwargs: Any) -> None:
        build = kwargs.pop("_init_setup_model", True)
        self.ids = ids
        super().__init__(policy, self._lanes(env), reward, **kwargs, _init_setup_model=False)
        self._config["ids"] = ids
        if build:
            self._setup_model()

    def _lanes(self, env: Any) -> Any:
        if env is None or isinstance(env, AgentLanes):
            return env
        return AgentLanes(make_batch(env), ids=self.ids, state=self.state_view)

    def _adopt(self, batch: BatchEnv) -> None:
        super()._adopt(batch)
        assert isinstance(batch, AgentLanes)
        self.names, self.members = batch.team.agents, batch.members

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train on another team with the same spaces."""
        super().set_env(self._lanes(env), force_reset)

    def _note_ends(self, ended: Ends) -> None:
        for a, name in enumerate(self.names):
            own = ended.total[ended.lane % self.members == a]
            if len(own):
                self.logger.record(f"rollout/return/{name}", float(own.mean()))

    def act_team(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions ``[B, A, ...]`` for teams that observe ``[B, A, ...]``, as the environment takes them."""
        seen = torch.as_tensor(obs, device=self.device)
        rows = self.policy.act(agent_view(seen, ids=self.ids, state=self.state_view), deterministic)
        return rows.reshape(len(seen), -1, *rows.shape[1:])

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Choose an action for each agent of a team ``[A, ...]``, or of several ``[B, A, ...]``.

        Returns:
            The actions, NumPy unless tensors were given, and ``state``, handed back.

        Raises:
            ValueError: The observations are not those of teams of this size.
        """
        self.policy.set_training_mode(False)
        obs = torch.as_tensor(observation)
        spaces = getattr(self.observation_space, "spaces", None)
        own = (self.observation_space if spaces is None else spaces["obs"]).shape or ()
        rank = len(own) + 1
        if obs.ndim not in (rank, rank + 1) or obs.shape[-rank] != self.members:
            raise ValueError(
                f"this policy acts for teams of {self.members} ({', '.join(self.names)}): give what all observe, "
                f"[{self.members}, ...] or [B, {self.members}, ...], not {list(obs.shape)}"
            )
        teams = obs if obs.ndim == rank + 1 else obs[None]
        actions = self.act_team(teams, deterministic)
        actions = actions if obs.ndim == rank + 1 else actions[0]
        return (actions if isinstance(observation, Tensor) else actions.cpu().numpy()), state

    def _saved_config(self) -> dict[str, Any]:
        return {**super()._saved_config(), "agents": list(self.names)}

    def _recall(self, meta: dict[str, Any]) -> None:
        super()._recall(meta)
        self.names = tuple(str(name) for name in meta["agents"])
        self.members = len(self.names)


class Towers(MlpExtractor):
    """An actor's layers on the first ``own`` features and a critic's on the rest."""

    def __init__(self, features: int, own: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(features, *args, **kwargs)
        self.own = own
        for tower, width in ((self.policy_net, own), (self.value_net, features - own)):
            if len(tower):
                first = tower[0]
                assert isinstance(first, nn.Linear)
                tower[0] = nn.Linear(width, first.out_features, device=first.weight.device)
        self.latent_dim_pi = self.latent_dim_pi if len(self.policy_net) else own
        self.latent_dim_vf = self.latent_dim_vf if len(self.value_net) else features - own

    def forward_actor(self, features: Tensor) -> Tensor:
        """The actor's latents of features ``[B, F]``."""
        out: Tensor = self.policy_net(features[:, : self.own])
        return out

    def forward_critic(self, features: Tensor) -> Tensor:
        """The critic's latents of features ``[B, F]``."""
        out: Tensor = self.value_net(features[:, self.own :])
        return out


class CentralisedPolicy(ActorCriticPolicy):
    """An actor that sees its own observation, and a critic that sees what all agents see.

    The observation space is that of ``AgentLanes(..., state=True)``; arguments as ``ActorCriticPolicy``'s.
    """

    def _build_mlp_extractor(self) -> None:
        spaces = getattr(self.observation_space, "spaces", {})
        if set(spaces) != {"obs", "state"}:
            raise TypeError(f"a centralised critic needs the observations of AgentLanes(..., state=True), not {spaces}")
        own = spaces["obs"].shape[0]
        self.mlp_extractor = Towers(
            self.features_dim, own, net_arch=self.net_arch, activation_fn=self.activation_fn, device=self.device
        )


@signature_of(PPO, ids=True)
class MAPPO(IPPO):
    """PPO with decentralised actors and a centralised critic; arguments as ``IPPO``'s.

    The critic is shown the observations of all agents and which of them it judges, the actors nothing but their own.
    """

    state_view: ClassVar[bool] = True
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        name: CentralisedPolicy for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    }
    policy_base = CentralisedPolicy
