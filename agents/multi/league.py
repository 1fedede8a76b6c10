"""Self-play with a league of past policies, on PPO.

Vinyals et al., "Grandmaster level in StarCraft II using multi-agent reinforcement learning", 2019: the learner plays a
share of its games against itself, and the rest against its own past, those that beat it most often first (prioritised
fictitious self-play). Learning against oneself alone runs in circles where strategies beat each other in turn, as in
rock, paper, scissors; whoever must also beat what it was before cannot.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ...envs.batch import BatchEnv
from ...envs.bridges import make_batch
from ...envs.multi.lanes import agent_view
from ...envs.multi.team import require_team
from ...envs.multi.versus import Versus
from ..evaluation import Evaluation, evaluate_batch, own_randomness
from ..functional import categorical_sample
from ..policies import ActorCriticPolicy
from ..ppo import PPO
from .payoffs import elo, pfsp
from .ppo import IPPO, signature_of

CHUNK = 16
"""Lanes of one opponent that are evaluated in one piece."""


class Actor(nn.Module):
    """What of a policy acts: observations ``[B, ...]`` to logits, or to means for a Box."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.features, self.tower = policy.pi_features_extractor, policy.mlp_extractor.policy_net
        self.head = policy.action_net

    def forward(self, obs: Tensor) -> Tensor:
        """Evaluate."""
        out: Tensor = self.head(self.tower(self.features(obs)))
        return out


class Pool:
    """The learner as it is now (number 0) and K past policies (1 to K), evaluated together; they are ``Opponents``.

    When all places are taken, a snapshot replaces another by chance such that the pool is a uniform draw of all that
    were ever made (reservoir sampling). How games end is counted per opponent and forgotten little by little.

    Args:
        policy: The learner's.
        size: K.
        self_share: Share of the games against the learner itself.
        sampling: See ``pfsp``.
        power: See ``pfsp``.
        decay: What is left of a count after a rollout.

    Raises:
        ValueError: The policy's actions are neither discrete nor a Box, or a setting is out of range.
    """

    def __init__(
        self, policy: ActorCriticPolicy, size: int, self_share: float, sampling: str, power: float, decay: float
    ) -> None:
        if size < 1 or not 0 <= self_share <= 1 or not 0 < decay <= 1:
            raise ValueError(
                f"pool_size={size}, self_share={self_share}, decay={decay}: at least 1; from 0 to 1; above 0, up to 1"
            )
        self.discrete = isinstance(policy.action_space, spaces.Discrete)
        if not self.discrete and not isinstance(policy.action_space, spaces.Box) or policy._sb3_space is not None:
            raise ValueError(
                f"a league is for discrete actions or a Box, and for Cairn's own extractors, not {policy.action_space}"
            )
        self.policy, self.actor, self.size = policy, Actor(policy), size
        self.share, self.sampling, self.power, self.decay = self_share, sampling, power, decay
        pfsp(torch.zeros(1), sampling, power)  # refuses what is unknown
        own = self._own()
        device = next(iter(own.values())).device
        self.past = {name: torch.zeros(size + 1, *p.shape, device=device) for name, p in own.items()}
        self.games, self.score = (torch.zeros(size + 1, device=device) for _ in range(2))
        self.born = torch.full((size + 1,), -1, dtype=torch.int64, device=device)  # -1: an empty place
        self.taken = 0
        self.refresh()
        self.snapshot(0)

    def _own(self) -> dict[str, Tensor]:
        own = {name: p.detach() for name, p in self.actor.named_parameters()}
        return own if self.discrete else {**own, "log_std": self.policy.log_std.detach()}

    def refresh(self) -> None:
        """Let number 0 be the learner as it is now."""
        for name, p in self._own().items():
            self.past[name][0].copy_(p)

    def snapshot(self, step: int) -> None:
        """Keep the learner as it is now, made at ``step``, if chance gives it a place."""
        place = self.taken if self.taken < self.size else int(torch.randint(self.taken + 1, ()))
        self.taken += 1
        if place < self.size:
            for name, p in self._own().items():
                self.past[name][place + 1].copy_(p)
            self.games[place + 1] = self.score[place + 1] = 0
            self.born[place + 1] = step

    @property
    def win_rate(self) -> Tensor:
        """How the learner has scored against each, itself included, ``[K + 1]``; one drawn game is added to each."""
        return (self.score + 0.5) / (self.games + 1)

    def weights(self) -> Tensor:
        """How often each is played, ``[K + 1]``, summing to 1."""
        count = min(self.taken, self.size)
        weights = torch.zeros_like(self.score)
        weights[0] = self.share
        weights[1 : count + 1] = (1 - self.share) * pfsp(self.win_rate[1 : count + 1], self.sampling, self.power)
        return weights

    # ---- as opponents --------------------------------------------------------------------------------------

    def draw(self, lanes: int) -> Tensor:
        """Opponents for new episodes, int64 ``[lanes]``."""
        return torch.multinomial(self.weights(), lanes, replacement=True)

    def note(self, who: Tensor, ended: Tensor, score: Tensor) -> None:
        """Count the games that ended."""
        self.games.index_add_(0, who, ended.float())
        self.score.index_add_(0, who, torch.where(ended, score, 0.0).float())

    @torch.no_grad()
    def outputs(self, obs: Tensor, who: Tensor) -> Tensor:
        """Logits or means ``[N, ...]`` of the actors ``who [N]`` at ``obs [N, ...]``.

        Lanes are sorted by actor and cut into chunks of one actor each, whose number does not depend on who plays: one
        batched product a layer, and no waiting for the device.
        """
        n, slots = len(who), self.size + 1
        order = who.argsort(stable=True)
        ranked = who[order]
        counts = torch.zeros(slots, dtype=torch.int64, device=who.device).index_add_(0, who, torch.ones_like(who))
        ends = ((counts + CHUNK - 1) // CHUNK).cumsum(0)
        first = ends - (counts + CHUNK - 1) // CHUNK
        at = first[ranked] * CHUNK + torch.arange(n, device=who.device) - (counts.cumsum(0) - counts)[ranked]
        chunks = n // CHUNK + min(slots, n)  # as many as there can be
        slot = torch.searchsorted(ends, torch.arange(chunks, device=who.device), right=True).clamp(max=slots - 1)
        rows = obs.new_zeros(chunks * CHUNK, *obs.shape[1:])
        rows[at] = obs[order]
        weights = {name: p[slot] for name, p in self.past.items() if name != "log_std"}

        def one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(self.actor, parameters, (x,))
            return out

        out = torch.func.vmap(one)(weights, rows.view(chunks, CHUNK, *obs.shape[1:])).flatten(0, 1)
        result = torch.empty_like(out[:n])
        result[order] = out[at]
        return result

    def act(self, obs: Tensor, who: Tensor) -> Tensor:
        """Actions drawn by the actors ``who [N]``, as the environment takes them."""
        out = self.outputs(obs, who)
        if self.discrete:
            return self.policy.executed(categorical_sample(out.log_softmax(-1)))
        out = out + self.past["log_std"][who].exp() * torch.randn_like(out)
        return self.policy.executed(out.reshape(len(out), *(self.policy.action_space.shape or ())))

    # ---- state ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything."""
        own = {name: getattr(self, name).clone() for name in ("games", "score", "born")}
        return {**own, "taken": self.taken, "past": {name: p.clone() for name, p in self.past.items()}}

    def load(self, state: Any) -> None:
        """Put back what ``state`` gave.

        Raises:
            ValueError: It is that of another pool.
        """
        if state["games"].shape != self.games.shape or set(state["past"]) != set(self.past):
            raise ValueError(f"the saved league has {len(state['games']) - 1} places, and this one {self.size}")
        for name in ("games", "score", "born"):
            getattr(self, name).copy_(state[name])
        for name, p in self.past.items():
            p.copy_(state["past"][name])
        self.taken = int(state["taken"])


class Tournament(NamedTuple):
    """Everybody against everybody."""

    score: Tensor
    """Mean score of the row's player against the column's, ``[M, M]``: 1 to win, 0.5 to draw."""
    elo: Tensor
    """Ratings ``[M]`` with mean 0."""
    born: Tensor
    """The step that each player was made at, ``[M]``; the last is the learner as it is now, -1."""


@signature_of(
    PPO, ids=False, self_share=0.35, sampling="hard", power=2.0, snapshot_every=20_000, pool_size=16, decay=0.99
)
class League(IPPO):
    """PPO that plays a game of two against itself and a league of its past selves.

    In lane n it sits on seat ``n % 2``. Whom it plays is drawn for every episode. ``league/win_rate`` is its mean score
    against the pool and ``league/worst`` that against whom it fares worst with; ``model.pool`` has them all.
    ``predict`` acts for both seats, as ``IPPO``'s does.

    Args:
        policy: As for ``PPO``.
        env: A team of two (``cairn/Soccer-v0``, or any PettingZoo parallel environment of two).
        reward: As for ``PPO``, for the learner's own experience.
        ids: Append the seat to the observation (vectors only), for games whose seats differ.
        self_share: Share of the games against itself as it is now. 1 is plain self-play.
        sampling: How the others are drawn: "hard", (1 - p)^power of its score p against each, or "variance", p (1 - p).
        power: See above; 0 plays all alike (fictitious self-play).
        snapshot_every: Steps between two snapshots.
        pool_size: Most of them that are kept.
        decay: What is left of the counted games after each rollout.
        kwargs: All other arguments of ``PPO``.

    Raises:
        TypeError: ``env`` has no agent axis.
        ValueError: It is not a game of two, or a setting is out of range.
    """

    batch: Versus | None

    def __init__(
        self,
        policy: Any,
        env: Any,
        reward: Any = None,
        *,
        ids: bool = False,
        self_share: float = 0.35,
        sampling: str = "hard",
        power: float = 2.0,
        snapshot_every: int = 20_000,
        pool_size: int = 16,
        decay: float = 0.99,
        **kwargs: Any,
    ) -> None:
        if snapshot_every < 1:
            raise ValueError(f"snapshot_every={snapshot_every}: at least 1 step")
        self.snapshot_every = snapshot_every
        self._league: dict[str, Any] = {
            "self_share": self_share, "sampling": sampling, "power": power, "pool_size": pool_size, "decay": decay,
        }  # fmt: skip
        build = kwargs.pop("_init_setup_model", True)
        super().__init__(policy, env, reward, ids=ids, **kwargs, _init_setup_model=False)
        self._config |= {**self._league, "snapshot_every": snapshot_every}
        if build:
            self._setup_model()

    def _lanes(self, env: Any) -> Any:
        return env if env is None or isinstance(env, Versus) else Versus(make_batch(env), ids=self.ids)

    def _adopt(self, batch: BatchEnv) -> None:
        PPO._adopt(self, batch)
        assert isinstance(batch, Versus)
        self.names, self.members = batch.team.agents, 2
        if hasattr(self, "pool"):
            batch.opponents = self.pool

    def _setup_model(self) -> None:
        super()._setup_model()
        named = {**self._league, "size": self._league["pool_size"]}
        del named["pool_size"]
        self.pool = Pool(self.policy, **named)
        if self.batch is not None:
            self.batch.opponents = self.pool

    def collect_rollouts(self, callback: Any) -> bool:
        """Live a rollout against the opponents of now."""
        # A checkpoint that is written when the rollout starts has this in it, and doing it again changes nothing.
        self.pool.refresh()
        if self.num_timesteps // self.snapshot_every >= self.pool.taken:
            self.pool.snapshot(self.num_timesteps)
        going = super().collect_rollouts(callback)
        self.pool.games *= self.pool.decay
        self.pool.score *= self.pool.decay
        rates = self.pool.win_rate[1 : min(self.pool.taken, self.pool.size) + 1]
        self.logger.record("league/win_rate", float(rates.mean()))
        self.logger.record("league/worst", float(rates.min()))
        self.logger.record("league/size", len(rates))
        return going

    def tournament(self, env: Any, episodes: int = 20, seed: int = 0) -> Tournament:
        """Let the pool and the learner play each other, all pairs at once, each pair as often on either seat.

        Args:
            env: The id of the game, or a function from a number of lanes to a batch.
            episodes: Of each ordered pair.
            seed: Of the episodes and of the players' dice; training goes on as if nothing had been played.
        """
        self.pool.refresh()
        count = min(self.pool.taken, self.pool.size)
        players = torch.tensor([*range(1, count + 1), 0], device=self.device)
        pairs = torch.cartesian_prod(players, players).repeat(episodes, 1)
        team = env(len(pairs)) if callable(env) else make_batch(env, len(pairs))
        with own_randomness(seed):
            total = play_out(self.pool, require_team(team, "a tournament"), pairs, self.ids, seed)
        score = (1 + torch.sign(total[:, 0] - total[:, 1])) / 2
        score = score.view(episodes, count + 1, count + 1).mean(0)
        score = (score + 1 - score.t()) / 2  # both seats
        born = torch.cat([self.pool.born[1 : count + 1], self.pool.born.new_tensor([-1])])
        return Tournament(score, elo(score.cpu(), 2.0 * episodes), born)

    def _learned(self) -> dict[str, Any]:
        return {**super()._learned(), "pool": self.pool}


OPPONENTS = ("itself", "past", "hardest", "random")


class Rival:
    """An ``Opponents`` that plays a frozen learner: itself, its past selves, the hardest of them, or chance.

    Args:
        model: The learner.
        kind: One of ``OPPONENTS``.

    Raises:
        ValueError: The kind is unknown.
    """

    def __init__(self, model: League, kind: str) -> None:
        if kind not in OPPONENTS:
            raise ValueError(f"opponent={kind!r}: one of {', '.join(OPPONENTS)}, or the folder of another league's run")
        self.model, self.kind, self.pool = model, kind, model.pool
        self.pool.refresh()
        self.scores: list[Tensor] = []
        self._open: Tensor | None = None
        self._noted = False

    @property
    def score(self) -> float:
        """Whoever plays it has scored so much, over the first game of each lane after a reset."""
        return float(torch.cat(self.scores).mean())

    def draw(self, lanes: int) -> Tensor:
        """The number in the pool of who plays in each lane."""
        if not self._noted:  # nothing was played since the last draw: a reset
            self._open = torch.ones(lanes, dtype=torch.bool, device=self.model.device)
        self._noted = False
        pool, count = self.pool, min(self.pool.taken, self.pool.size)
        if self.kind == "past":
            return torch.randint(1, count + 1, (lanes,), device=self.model.device)
        hardest = 1 + int(pool.win_rate[1 : count + 1].argmin()) if self.kind == "hardest" else 0
        return torch.full((lanes,), hardest, device=self.model.device)

    def act(self, obs: Tensor, who: Tensor) -> Tensor:
        """Its actions."""
        if self.kind != "random":
            return self.pool.act(obs, who)
        space = self.model.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + torch.randint(int(space.n), (len(who),), device=who.device)
        assert isinstance(space, spaces.Box)
        low, high = (torch.as_tensor(edge, device=who.device) for edge in (space.low, space.high))
        return low + torch.rand(len(who), *low.shape, device=who.device) * (high - low)

    def note(self, who: Tensor, ended: Tensor, score: Tensor) -> None:
        """Count first games."""
        assert self._open is not None
        self._noted = True
        self.scores.append(score[self._open & ended])
        self._open = self._open & ~ended


def against(player: League, rival: Rival, env: Any, episodes: int, seed: int, deterministic: bool) -> Evaluation:
    """Let a frozen player play a rival, on one seat in every second lane and on the other in the rest.

    Args:
        player: Whose returns are told.
        rival: See there; made of ``player``, or of another learner of the same game.
        env: A batch of the game that is this function's alone.
        episodes: How many.
        seed: Of the episodes and of both players' dice.
        deterministic: The player takes its likeliest actions.
    """
    table = Versus(env, rival, ids=player.ids)
    player.policy.set_training_mode(False)
    found = evaluate_batch(
        lambda obs: player.policy.act(obs, deterministic), table, episodes, seed, deterministic=deterministic
    )
    return replace(found, opponent=rival.kind, score=rival.score)


@torch.no_grad()
def play_out(pool: Any, team: Any, pairs: Tensor, ids: bool, seed: int) -> Tensor:
    """Returns ``[N, 2]`` of the first episode of each lane, whose seats ``pairs [N, 2]`` play.

    Args:
        pool: Has ``act(obs, who)``.
        team: N games.
        pairs: Who sits where.
        ids: As in ``agent_view``.
        seed: Of the episodes.
    """
    obs, _ = team.reset(seed=seed)
    live = torch.ones(len(pairs), dtype=torch.bool, device=team.device)
    total = torch.zeros(len(pairs), 2, dtype=torch.float64, device=team.device)
    while bool(live.any()):
        action = pool.act(agent_view(obs, ids=ids), pairs.flatten())
        obs, reward, _, _, info = team.step(action.reshape(len(pairs), 2, *action.shape[1:]))
        total += torch.where(live[:, None], reward.double(), 0.0)
        live &= ~info["_final_obs"]
    return total
