"""MAMQL: multi-agent inverse Q-learning from demonstrations, one marginal critic for each agent.

Haynam et al., "Multi-agent inverse Q-learning from demonstrations", 2025. Agent i keeps a critic of its own actions
alone, Q_i(s, a_i), in which the others' actions are averaged over as the data has them; its policy is softmax(Q_i), its
value V_i the logsumexp, and the reward that explains the demonstrations r_i = Q_i(s, a_i) - gamma V_i(s'). With the
concave phi(x) = x - x^2 / 4 of the chi-square divergence, each critic minimises

    E_replay[V_i(s) - gamma V_i(s')] - E_demonstrations[phi(r_i)]     with an environment,
    (1 - gamma) E[V_i(s_0)]          - E_demonstrations[phi(r_i)]     without,

where V_i(s') is 0 after a termination. Two baselines share all the rest: inverse Q-learning of one critic over joint
actions (Garg et al., "IQ-Learn", 2021), and behaviour cloning.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ...envs.bridges import make_batch
from ...envs.multi.team import TeamEnv, require_team
from ...shaping.state import pack, unpack
from .. import functional as fn
from .networks import TeamMLP

METHODS = ("marginal", "joint", "clone")


class Demonstrations(NamedTuple):
    """What experts did, M transitions of A agents."""

    obs: Tensor
    """``[M, A, D]``."""
    action: Tensor
    """int64 ``[M, A]``."""
    next_obs: Tensor
    """``[M, A, D]``, the true next one."""
    terminated: Tensor
    """Bool ``[M]``."""
    start: Tensor
    """Bool ``[M]``: the first of its episode."""
    reward: Tensor
    """``[M, A]``, the task's own: to judge what is recovered, never to learn from."""


@torch.no_grad()
def demonstrate(act: Callable[[Tensor], Tensor], env: Any, steps: int, seed: int = 0) -> Demonstrations:
    """Let a policy show what it does.

    Args:
        act: Observations ``[N, A, D]`` to actions ``[N, A]`` (``agents.training.acting(model, True)`` is one).
        env: A team, or the id of one.
        steps: Transitions, rounded up to whole steps of all environments.
        seed: Of the episodes.
    """
    team = _fit(make_batch(env))
    obs, _ = team.reset(seed=seed)
    start, rows = torch.ones(team.num_envs, dtype=torch.bool, device=team.device), []
    for _ in range(-(-steps // team.num_envs)):
        action, before = act(obs), obs.clone()
        obs, reward, terminated, truncated, info = team.step(action)
        done = terminated | truncated
        after = torch.where(done[:, None, None], info["final_obs"], obs)
        rows.append((before, action.long(), after, terminated.clone(), start, reward.clone()))
        start = done
    return Demonstrations(*(torch.cat(column) for column in zip(*rows)))


class MAMQL:
    """Multi-agent marginal inverse Q-learning, for teams with discrete actions that stay to the end.

    Args:
        env: The team to learn in, or the id of one.
        demonstrations: What to imitate.
        method: ``"marginal"``: MAMQL. ``"joint"``: one critic over all combinations of actions, from all observations.
            ``"clone"``: the same networks as MAMQL's, by maximum likelihood.
        online: Live in ``env`` as well, as the first loss above has it; otherwise it is asked for its spaces alone.
        learning_rate: Of Adam.
        gamma: Discount.
        batch_size: Transitions of either kind in an update.
        replay: How many transitions of its own it remembers.
        penalty: Weight of the squared parameters.
        net_arch: Widths of the hidden layers.
        seed: Of networks, draws and episodes.

    Raises:
        TypeError: ``env`` has no agent axis.
        ValueError: The method is unknown, agents leave or do not act discretely, or the demonstrations are empty, of
            another space, or hold numbers that are not finite.
    """

    def __init__(
        self,
        env: Any,
        demonstrations: Demonstrations,
        *,
        method: str = "marginal",
        online: bool = True,
        learning_rate: float = 1e-3,
        gamma: float = 0.99,
        batch_size: int = 256,
        replay: int = 16_600,
        penalty: float = 1e-5,
        net_arch: tuple[int, ...] = (128, 128),
        seed: int = 0,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method={method!r}: it is one of {', '.join(METHODS)}")
        self.env = team = _fit(make_batch(env))
        self.method, self.online, self.gamma, self.batch_size = method, online and method != "clone", gamma, batch_size
        seen, acts = team.agent_observation_space, team.agent_action_space
        assert isinstance(seen, spaces.Box) and isinstance(acts, spaces.Discrete)
        self.members, self.choices, width = len(team.agents), int(acts.n), seen.shape[0]
        self.demonstrations = _checked(demonstrations, self.members, width, self.choices)
        self.joint, self.seed, self.device = method == "joint", seed, team.device
        if self.joint:
            sizes = (self.members * width, *net_arch, self.choices**self.members)
        else:
            sizes = (width, *net_arch, self.choices)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = TeamMLP(1 if self.joint else self.members, sizes).to(self.device)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), learning_rate, weight_decay=penalty)
        self.generator = torch.Generator().manual_seed(seed)
        self.starts = self.demonstrations.obs[self.demonstrations.start]
        if not len(self.starts):
            raise ValueError("the demonstrations have no first step of an episode, and so no starts to learn from")
        rows = max(replay // team.num_envs, 1) * team.num_envs
        like = self.demonstrations.obs[0]
        self.own = {
            "obs": like.new_zeros((rows, *like.shape)),
            "next_obs": like.new_zeros((rows, *like.shape)),
            "terminated": torch.zeros(rows, dtype=torch.bool, device=self.device),
        }
        self.lived = 0
        self._obs: Tensor | None = None
        self.logs: dict[str, float] = {}

    # ---- critics -------------------------------------------------------------------------------------------

    def values(self, obs: Tensor) -> Tensor:
        """Q of all actions: ``[C, B, n]`` for ``obs [B, A, D]``; C is A (joint: 1), n the actions."""
        x = obs.float().flatten(1)[None] if self.joint else obs.float().transpose(0, 1)
        out: Tensor = self.critic(x)
        return out

    def _taken(self, action: Tensor) -> Tensor:
        """Which of a critic's actions were taken, int64 ``[C, B]``."""
        if not self.joint:
            return action.t()
        place = self.choices ** torch.arange(self.members, device=action.device)
        return (action * place).sum(1)[None]

    def recovered(self, obs: Tensor, action: Tensor, next_obs: Tensor, terminated: Tensor) -> Tensor:
        """The reward that explains what was done, ``[B, C]``: a critic's Q(s, a) - gamma V(s').

        A joint critic has one for the team, ``[B, 1]``.
        """
        q = self.values(obs).gather(2, self._taken(action)[..., None])[..., 0]
        after = self.values(next_obs).logsumexp(-1) * ~terminated
        return (q - self.gamma * after).t()

    def loss(self, expert: Mapping[str, Tensor], own: Mapping[str, Tensor] | None, starts: Tensor) -> Tensor:
        """The sum of the critics' losses on rows of demonstrations, of its own life (online) or of starts (offline)."""
        if self.method == "clone":
            logits = self.values(expert["obs"])
            return F.cross_entropy(logits.flatten(0, 1), self._taken(expert["action"]).flatten()) * self.members
        r = self.recovered(expert["obs"], expert["action"], expert["next_obs"], expert["terminated"])
        explained = (r - r.square() / 4).mean(0).sum()
        if own is None:
            return (1 - self.gamma) * self.values(starts).logsumexp(-1).mean(1).sum() - explained
        now, after = self.values(own["obs"]).logsumexp(-1), self.values(own["next_obs"]).logsumexp(-1)
        return (now - self.gamma * after * ~own["terminated"]).mean(1).sum() - explained

    # ---- learning ------------------------------------------------------------------------------------------

    def learn(self, updates: int) -> Self:
        """Make so many updates; online, each after one step of every environment."""
        demos = self.demonstrations._asdict()
        for _ in range(updates):
            if self.online:
                self._live()
            expert = self._draw(demos, len(demos["obs"]), self.batch_size)
            filled = min(self.lived, len(self.own["obs"]))
            own = self._draw(self.own, filled, self.batch_size) if self.online else None
            starts = self.starts[self._index(len(self.starts), self.batch_size)]
            loss = self.loss(expert, own, starts)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
        self.logs = {"loss": float(loss.detach()), "steps": float(self.lived)} if updates else {}
        return self

    def _index(self, rows: int, count: int) -> Tensor:
        return torch.randint(rows, (count,), generator=self.generator).to(self.device)

    def _draw(self, columns: Mapping[str, Tensor], rows: int, count: int) -> dict[str, Tensor]:
        at = self._index(rows, count)
        return {name: column[at] for name, column in columns.items()}

    @torch.no_grad()
    def _live(self) -> None:
        if self._obs is None:
            self._obs = self.env.reset(seed=self.seed)[0].clone()
        obs = self._obs
        assert obs is not None
        after, _, terminated, truncated, info = self.env.step(self._dice(obs))
        done = (terminated | truncated)[:, None, None]
        n = len(obs)
        at = slice(self.lived % len(self.own["obs"]), self.lived % len(self.own["obs"]) + n)
        self.own["obs"][at], self.own["terminated"][at] = obs, terminated
        self.own["next_obs"][at] = torch.where(done, info["final_obs"], after)
        self.lived += n
        self._obs = after.clone()

    def _dice(self, obs: Tensor) -> Tensor:
        """A draw of the policy, from this learner's own generator."""
        p = self.values(obs).softmax(-1)
        pick = torch.multinomial(p.flatten(0, 1).cpu(), 1, generator=self.generator).to(self.device)
        return self._split(pick.reshape(p.shape[:2]))

    def _split(self, pick: Tensor) -> Tensor:
        """The agents' actions ``[B, A]`` of the critics' ``[C, B]``."""
        if not self.joint:
            return pick.t()
        place = self.choices ** torch.arange(self.members, device=pick.device)
        return pick[0][:, None] // place % self.choices

    @torch.no_grad()
    def act_team(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions ``[B, A]`` for teams that observe ``[B, A, D]``."""
        q = self.values(torch.as_tensor(obs, device=self.device))
        return self._split(q.argmax(-1) if deterministic else fn.categorical_sample(q))

    # ---- state ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on, the environment's state and the demonstrations apart."""
        return {
            "critic": pack(self.critic),
            "optimizer": pack(self.optimizer),
            "own": pack(self.own),
            "generator": self.generator.get_state(),
            "lived": self.lived,
            "obs": None if self._obs is None else self._obs.clone(),
            "env": self.env.state_dict() if self.online and self._obs is not None else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave, into a learner made with the same arguments."""
        unpack(self.critic, state["critic"])
        unpack(self.optimizer, state["optimizer"])
        for name, column in self.own.items():
            column.copy_(state["own"][name])
        self.generator.set_state(state["generator"].cpu())
        self.lived, self._obs = state["lived"], state["obs"]
        if state["env"] is not None:
            self.env.load_state_dict(state["env"])


def _fit(batch: Any) -> TeamEnv:
    """A team that this learner can learn in."""
    team = require_team(batch, "MAMQL")
    seen = team.agent_observation_space
    if team.agents_leave or not isinstance(team.agent_action_space, spaces.Discrete):
        raise ValueError(f"MAMQL is for teams that stay to the end and have discrete actions, and not for {batch}")
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 1 or team.agent_action_space.start != 0:
        raise ValueError(f"MAMQL is for agents that observe vectors and count actions from 0; these observe {seen}")
    return team


def _checked(demos: Demonstrations, members: int, width: int, choices: int) -> Demonstrations:
    """The demonstrations, if they fit."""
    rows = len(demos.obs)
    if not rows:
        raise ValueError("the demonstrations are empty: there is nothing to imitate")
    want = {"obs": (rows, members, width), "next_obs": (rows, members, width), "action": (rows, members)}
    for name, shape in {**want, "terminated": (rows,), "start": (rows,)}.items():
        if tuple(getattr(demos, name).shape) != shape:
            raise ValueError(
                f"the demonstrations' {name} is {list(getattr(demos, name).shape)}, and this team's is {list(shape)}: "
                "were they made in another world, or cut?"
            )
    if not (torch.isfinite(demos.obs.float()).all() and torch.isfinite(demos.next_obs.float()).all()):
        raise ValueError("the demonstrations hold numbers that are not finite")
    if bool(((demos.action < 0) | (demos.action >= choices)).any()):
        raise ValueError(f"the demonstrations hold actions beyond the team's {choices}")
    return demos
