"""Rewards learned by telling a demonstrator from the learner: GAIL, AIRL, and what keeps them smooth.

Ho and Ermon, "Generative adversarial imitation learning", 2016; Fu, Luo and Levine, "Learning robust rewards with
adversarial inverse reinforcement learning", 2018; Kostrikov et al., "Discriminator-actor-critic", 2019 (absorbing
states); Blonde, Strasser and Kalousis, "Lipschitzness is all you need to tame off-policy generative adversarial
imitation learning", 2022 (gradient penalties off-policy; PURPLE).

The terms are pure: a replay buffer scores them anew at every sampling, so that old transitions are always paid by the
discriminator of now. Rewards see observations flat, whitened by the demonstrations' own statistics.
"""

from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ..envs.spaces import flat_size, flatten
from .adam import Adam
from .learned import positive
from .networks import mlp
from .stretch import Stretch
from .term import Pure, Source, Term, World

FORMS = ("softplus", "log", "logit")
PENALISED = ("between", "expert", "learner", "both")
FAR = 10.0
"""How far from whitened inputs the state after an end lies: at most ``limit`` a unit is what a logit may change by."""


class Adversarial(Pure):
    """The reward of a discriminator that is trained, at every update, on demonstrations and on what was lived.

    Args:
        demonstrations: A flat ``Stretch``, or ``cairn.agents.data.Demonstrations``.
        form: With logit h of "demonstrated": "softplus" is -log(1 - D) = softplus(h), never negative, which keeps
            episodes going; "log" is log D, never positive, which ends them; "logit" is h.
        hidden: Width of both hidden layers.
        learning_rate: Of Adam.
        batch: Rows of each kind in a minibatch.
        steps: Minibatches of an update.
        penalty: Weight of the gradient penalty; 0 for none.
        limit: Gradients (by the whitened inputs) longer than this are punished by the square of what is beyond.
        penalised: Where: on lines "between" the two kinds of rows, at the "expert"'s, the "learner"'s, or "both".
        two_sided: Punish shorter ones too.
        spectral: Divide every layer by its spectral norm.
        smooth: Demonstrated rows are labelled by draws from this range instead of 1.
        entropy: Weight of the entropy of the discriminator's verdicts.
        actions: Look at actions; False looks at states alone.
        next_states: Look at next observations too.
        absorbing: An episode that ends goes on in a state without end, whose reward is learned too: a terminal step is
            paid gamma / (1 - gamma) times that beside its own.
        purple: Shrink the reward, by 0.7 at most, where a learned model of the dynamics is steep.

    Raises:
        ValueError: A setting is out of its range.
    """

    saved: tuple[str, ...] = ("network", "optimiser", "draws", "updates", "model", "model_optimiser", "steepness")
    text_name: ClassVar[str] = "adversarial"

    def __init__(
        self,
        demonstrations: Any,
        form: str = "softplus",
        hidden: int = 64,
        learning_rate: float = 5e-4,
        batch: int = 128,
        steps: int = 16,
        penalty: float = 10.0,
        limit: float = 1.0,
        penalised: str = "between",
        two_sided: bool = False,
        spectral: bool = False,
        smooth: tuple[float, float] = (1.0, 1.0),
        entropy: float = 0.0,
        actions: bool = True,
        next_states: bool = False,
        absorbing: bool = False,
        purple: bool = False,
    ) -> None:
        if form not in FORMS or penalised not in PENALISED:
            raise ValueError(
                f"form={form!r}, penalised={penalised!r}: one of {', '.join(FORMS)}, and one of {', '.join(PENALISED)}"
            )
        if penalty < 0 or not 0 <= entropy < inf or not 0 <= smooth[0] <= smooth[1]:
            raise ValueError(f"penalty={penalty}, entropy={entropy}, smooth={smooth}: not below 0, and in order")
        positive(self, hidden=hidden, learning_rate=learning_rate, batch=batch, steps=steps, limit=limit)
        self.demonstrations = demonstrations
        self.form, self.hidden, self.learning_rate, self.batch, self.steps = form, hidden, learning_rate, batch, steps
        self.penalty, self.limit, self.penalised, self.two_sided = float(penalty), float(limit), penalised, two_sided
        self.spectral, self.smooth, self.entropy = spectral, (float(smooth[0]), float(smooth[1])), float(entropy)
        self.actions, self.next_states, self.absorbing, self.purple = actions, next_states, absorbing, purple
        self.updates = 0
        self.network: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None
        self.model: nn.Module | None = None
        self.model_optimiser: torch.optim.Optimizer | None = None
        self.draws = torch.Generator()
        self.steepness = torch.ones(())  # standard deviation of the model's excess steepness

    # ---- building ------------------------------------------------------------------------------------------

    def bind(self, world: World) -> None:
        """Build the networks for the spaces.

        Raises:
            ValueError: The demonstrations are of other spaces, or there are none.
        """
        given = self.demonstrations
        if hasattr(given, "check_spaces"):
            given.check_spaces(world.observation_space, world.action_space)
        expert: Stretch = (given if isinstance(given, Stretch) else given.stretch()).flat()
        if not len(expert.valid):
            raise ValueError(f"{self.name} needs demonstrations, and got none")
        self.world, self.updates = world, 0
        self.gamma = 0.99 if world.gamma is None else world.gamma
        if self.absorbing and self.gamma >= 1:
            raise ValueError(f"{self.name}(absorbing=True) pays 1 / (1 - gamma) at ends, and gamma is {self.gamma}")
        self.expert = expert.map(lambda v: v.to(world.device))
        seen = flatten(world.observation_space, self.expert.obs)
        deviation = seen.std(0, unbiased=False)
        self.centre, self.unit = seen.mean(0), torch.where(deviation > 1e-3, deviation, 1.0)
        if self.actions:
            done = flatten(world.action_space, self.expert.action)
            apart = done.std(0, unbiased=False)
            discrete = bool(((done == 0) | (done == 1)).all())
            self.act_centre = torch.zeros_like(apart) if discrete else done.mean(0)
            self.act_unit = torch.ones_like(apart) if discrete else torch.where(apart > 1e-3, apart, 1.0)
        self.draws = torch.Generator().manual_seed(world.seed)
        weights = torch.Generator().manual_seed(world.seed)
        self.build(weights, flat_size(world.observation_space), flat_size(world.action_space) if self.actions else 0)

    def build(self, weights: torch.Generator, state: int, action: int) -> None:
        """Make the networks and their optimisers."""
        width = state * (2 if self.next_states else 1) + action + self.absorbing
        self.network = self.made([width, self.hidden, self.hidden, 1], weights)
        self.optimiser = Adam(self.network.parameters(), self.learning_rate)
        if self.purple:
            self.model = mlp([state + action, self.hidden, self.hidden, state], weights).to(self.world.device)
            self.model_optimiser = Adam(self.model.parameters(), self.learning_rate)

    def made(self, sizes: list[int], weights: torch.Generator) -> nn.Module:
        """Layers of these sizes, with spectral norms where they are wanted."""
        network = mlp(sizes, weights)
        if self.spectral:
            with torch.random.fork_rng(devices=[]):  # its first vectors are drawn from the global stream
                torch.manual_seed(self.world.seed % (1 << 63))
                for layer in network:
                    if isinstance(layer, nn.Linear):
                        spectral_norm(layer)
        return network.to(self.world.device).eval()

    # ---- inputs --------------------------------------------------------------------------------------------

    def state_of(self, obs: Any) -> Tensor:
        """Observations flat and whitened: ``[B, S]``."""
        flat = flatten(self.world.observation_space, obs)
        return ((flat - self.centre) / self.unit).clamp(-10, 10)

    def action_of(self, action: Any) -> Tensor:
        """Actions flat and whitened, ``[B, A]``."""
        return ((flatten(self.world.action_space, action) - self.act_centre) / self.act_unit).clamp(-10, 10)

    def inputs_of(self, x: Stretch) -> Tensor:
        """What the network is given for flat, valid rows: ``[B, W]``."""
        parts = [self.state_of(x.obs)]
        if self.actions:
            parts.append(self.action_of(x.action))
        if self.next_states:
            parts.append(self.state_of(x.next_obs))
        if self.absorbing:
            parts.append(torch.zeros(len(x.valid), 1, device=x.device))
        return torch.cat(parts, 1)

    def ended(self, inputs: Tensor) -> Tensor:
        """The input that stands for the state after the end, ``[1, W]``."""
        row = torch.zeros_like(inputs[:1])
        row[:, -1] = FAR
        return row

    def logit(self, inputs: Tensor) -> Tensor:
        """The logit of "demonstrated", ``[B]``."""
        assert self.network is not None
        out: Tensor = self.network(inputs)[:, 0]
        return out

    # ---- reward --------------------------------------------------------------------------------------------

    def paid(self, logit: Tensor) -> Tensor:
        """The reward that a logit stands for."""
        if self.form == "softplus":
            return F.softplus(logit)
        return -F.softplus(-logit) if self.form == "log" else logit

    def raw(self, x: Stretch) -> Tensor:
        """The reward of flat, valid rows ``[B]``."""
        inputs = self.inputs_of(x)
        reward = self.paid(self.logit(inputs))
        if self.absorbing:
            after = self.paid(self.logit(self.ended(inputs)))
            reward = reward + x.terminated * self.gamma / (1 - self.gamma) * after
        if self.purple:
            excess = self.excess(x)
            reward = reward * (-excess / self.steepness).exp().clamp(0.7, 1.0)
        return reward

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward of each row."""
        flat = x.flat()
        out = torch.zeros(len(flat.valid), device=x.device)
        good = flat if bool(flat.valid.all()) else flat[flat.valid]
        if len(good.valid):
            out = out.masked_scatter(flat.valid, self.raw(good))
        return out.reshape(x.shape)

    # ---- learning ------------------------------------------------------------------------------------------

    def demonstrated(self, rows: int) -> Stretch:
        """Draw rows of the demonstrations."""
        index = torch.randint(len(self.expert.valid), (rows,), generator=self.draws)
        return self.expert[index.to(self.expert.device)]

    def both(self, lived: Stretch, shown: Stretch) -> tuple[Tensor, Tensor]:
        """Inputs of the learner's rows and of the demonstrator's; ends give one more row each."""
        sides = []
        for x in (lived, shown):
            inputs = self.inputs_of(x)
            if self.absorbing and bool(x.terminated.any()):
                inputs = torch.cat([inputs, self.ended(inputs).expand(int(x.terminated.sum()), -1)])
            sides.append(inputs)
        return sides[0], sides[1]

    def verdicts(self, lived: Stretch, shown: Stretch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the learner's rows and of the demonstrator's, and the gradient penalty."""
        mine, theirs = self.both(lived, shown)
        return self.logit(mine), self.logit(theirs), self.gradient_penalty(mine, theirs)

    def gradient_penalty(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """Mean of (|gradient| - limit)^2, where it is longer (or anywhere, two-sided)."""
        if not self.penalty:
            return torch.zeros((), device=mine.device)
        rows = min(len(mine), len(theirs))
        if self.penalised == "between":
            share = torch.rand(rows, 1, generator=self.draws).to(mine.device)
            at = share * mine[:rows] + (1 - share) * theirs[:rows]
        else:
            at = {"expert": theirs, "learner": mine, "both": torch.cat([mine, theirs])}[self.penalised]
        beyond = slope_of(self.logit, at, create_graph=True) - self.limit
        return (beyond if self.two_sided else beyond.clamp(min=0)).square().mean()

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Train the discriminator (and PURPLE's model) on what was lived and on the demonstrations."""
        assert self.network is not None and self.optimiser is not None
        logs: list[Tensor] = []
        with torch.enable_grad():
            self.network.train()
            # All minibatches are drawn in one go: what that costs hardly depends on how many rows there are.
            every_lived, every_shown = (draw(self.batch * self.steps) for draw in (source.sample, self.demonstrated))
            for k in range(self.steps):
                rows = slice(k * self.batch, (k + 1) * self.batch)
                lived, shown = every_lived[rows], every_shown[rows]
                mine, theirs, penalty = self.verdicts(lived, shown)
                low, high = self.smooth
                label = torch.rand(len(theirs), generator=self.draws).to(theirs.device) * (high - low) + low
                loss = F.binary_cross_entropy_with_logits(mine, torch.zeros_like(mine))
                loss = loss + (F.softplus(theirs) - label * theirs).mean()
                every = torch.cat([mine, theirs])
                uncertain = (F.softplus(every) - every.sigmoid() * every).mean()
                total = loss - self.entropy * uncertain + self.penalty * penalty
                self.optimiser.zero_grad()
                torch.autograd.backward(total)
                self.optimiser.step()
                right = ((mine < 0).float().mean() + (theirs > 0).float().mean()) / 2
                logs.append(torch.stack([loss.detach(), penalty.detach(), right]))
                if self.purple:
                    self._learn_model(lived)
            self.network.eval()
        self.updates += 1
        if self.purple:
            spread = self.excess(source.sample(self.batch)).std()
            self.steepness = torch.where(spread > 1e-6, spread, 1.0)
        loss, penalty, right = torch.stack(logs).mean(0)
        return {"loss": loss, "penalty": penalty, "accuracy": right}

    # ---- PURPLE --------------------------------------------------------------------------------------------

    def _forward_inputs(self, x: Stretch) -> Tensor:
        parts = [self.state_of(x.obs)] + ([self.action_of(x.action)] if self.actions else [])
        return torch.cat(parts, 1)

    def _learn_model(self, x: Stretch) -> None:
        assert self.model is not None and self.model_optimiser is not None
        loss = (self.model(self._forward_inputs(x)) - self.state_of(x.next_obs)).square().mean()
        self.model_optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.model_optimiser.step()

    def excess(self, x: Stretch) -> Tensor:
        """max(0, |gradient of the model| - 9)^2 of flat rows ``[B]``, the gradient being of the outputs' sum."""
        model = self.model
        assert model is not None
        steep = slope_of(lambda v: model(v).sum(1), self._forward_inputs(x), create_graph=False)
        return (steep - 9).clamp(min=0).square()

    @classmethod
    def examples(cls) -> list[Term]:
        """None: demonstrations are of one world."""
        return []


class AIRL(Adversarial):
    """Adversarial IRL: f = g(s) + gamma (1 - d) h(s') - h(s), and logit = f - log pi(a | s) (Fu et al. 2018).

    The learner is paid ``f - log pi`` as ``form`` has it ("logit" is AIRL's own, the entropy-regularised return);
    ``state_reward()`` is g alone, the part that is meant to outlive a change of the dynamics. It needs a seat that
    knows the policy (PPO's).

    Args:
        demonstrations: As ``Adversarial``'s.
        form: Likewise.
        actions: g looks at actions too; then it is not told from the advantage.
        kwargs: ``Adversarial``'s other settings; ``absorbing``, ``next_states`` and ``purple`` are not for AIRL.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"log_prob"})
    text_name: ClassVar[str] = "airl"

    def __init__(self, demonstrations: Any, form: str = "logit", actions: bool = False, **kwargs: Any) -> None:
        refused = {"absorbing", "next_states", "purple"} & set(kwargs)
        if refused:
            raise ValueError(f"AIRL does not take {', '.join(sorted(refused))}")
        super().__init__(demonstrations, form, actions=actions, **kwargs)

    def build(self, weights: torch.Generator, state: int, action: int) -> None:
        """Two networks: g, and h."""
        if self.world.ask is None:
            raise ValueError("AIRL compares with the policy of now, and this seat has none: take cairn.agents.PPO")
        sizes = [self.hidden, self.hidden, 1]
        self.network = nn.ModuleDict({
            "g": self.made([state + action, *sizes], weights), "h": self.made([state, *sizes], weights)
        })  # fmt: skip
        self.network.eval()
        self.optimiser = Adam(self.network.parameters(), self.learning_rate)
        self.width = state

    def _columns(self, x: Stretch) -> Tensor:
        """State, next state, ends, and actions where g looks at them: ``[B, 2 S + 1 + A]``."""
        parts = [self.state_of(x.obs), self.state_of(x.next_obs), x.terminated.float()[:, None]]
        return torch.cat(parts + ([self.action_of(x.action)] if self.actions else []), 1)

    def advantage(self, columns: Tensor) -> Tensor:
        """The value f of rows."""
        nets: Any = self.network
        w = self.width
        now, after, ends, acts = columns[:, :w], columns[:, w : 2 * w], columns[:, 2 * w], columns[:, 2 * w + 1 :]
        shaping = self.gamma * (1 - ends) * nets["h"](after)[:, 0] - nets["h"](now)[:, 0]
        out: Tensor = nets["g"](torch.cat([now, acts], 1))[:, 0] + shaping
        return out

    def likelihood(self, x: Stretch) -> Tensor:
        """The logarithm of pi(a | s) of flat rows: of the behaviour where it was noted, else of the policy of now."""
        if "log_prob" in x.extra:
            return x.extra["log_prob"]
        assert self.world.ask is not None
        with torch.no_grad():
            return self.world.ask.log_prob(x)

    def raw(self, x: Stretch) -> Tensor:
        """The reward of flat, valid rows ``[B]``."""
        return self.paid(self.advantage(self._columns(x)) - self.likelihood(x))

    def verdicts(self, lived: Stretch, shown: Stretch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits f - log pi of both kinds, and the penalty on f."""
        mine, theirs = self._columns(lived), self._columns(shown)
        logits = [self.advantage(c) - self.likelihood(x) for c, x in ((mine, lived), (theirs, shown))]
        return logits[0], logits[1], self.gradient_penalty(mine, theirs)

    def logit(self, inputs: Tensor) -> Tensor:
        """What the gradient penalty is on: f."""
        return self.advantage(inputs)

    def state_reward(self) -> "StateReward":
        """The part g alone, as a term."""
        return StateReward(self)


class StateReward(Pure):
    """The part g of an AIRL reward, without shaping and likelihood; it follows the one it was taken from."""

    def __init__(self, of: AIRL) -> None:
        self.of = of

    def __deepcopy__(self, memo: dict[int, Any]) -> "StateReward":
        """A copy follows the same one."""
        return StateReward(self.of)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The part g of each row."""
        flat, nets = x.flat(), self.of.network
        good = flat[flat.valid]
        out = torch.zeros(len(flat.valid), device=x.device)
        if len(good.valid):
            parts = [self.of.state_of(good.obs)] + ([self.of.action_of(good.action)] if self.of.actions else [])
            out = out.masked_scatter(flat.valid, nets["g"](torch.cat(parts, 1))[:, 0])  # type: ignore[index]
        return out.reshape(x.shape)

    @classmethod
    def examples(cls) -> list[Term]:
        """None: it belongs to an AIRL term."""
        return []


def slope_of(f: Any, at: Tensor, *, create_graph: bool) -> Tensor:
    """Length of the gradient of ``f [B]`` at each row of ``at [B, W]``: ``[B]``."""
    with torch.enable_grad():
        at = at.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(f(at).sum(), at, create_graph=create_graph)
    # The root of 0 has no derivative: a hair is added beneath it.
    length: Tensor = (gradient.square().sum(1) + 1e-12).sqrt()
    return length
