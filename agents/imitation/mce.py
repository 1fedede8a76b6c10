"""Maximum causal entropy inverse reinforcement learning, exactly, on finite MDPs.

Ziebart, Bagnell and Dey, "Modeling interaction via the principle of maximum causal entropy", 2010: of all policies with
the demonstrator's expected features, the one with the largest causal entropy is the soft optimum of a reward that is
linear in the features. Its weights maximise the concave dual ``<theta, features of the demonstrator> - V_theta``,
whose gradient is the difference of the features. Finite horizon and discounted; float64 throughout.
"""

from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from ...envs.tabular.mdp import MDP
from ...envs.tabular.soft import SoftOptimum, soft_value_iteration
from ...envs.tabular.solve import occupancy, visits
from ...shaping.stretch import Stretch
from ...shaping.term import Pure, Term, World
from ..data.demonstrations import Demonstrations

FEATURES = ("state", "state_action", "next_state")


class Recovered(NamedTuple):
    """What :func:`mce_irl` found."""

    reward: Tensor
    """``[S, A]``, float64: features times weights."""
    weights: Tensor
    """``[F]``."""
    policy: Tensor
    """The soft optimum under the reward: ``[S, A]``, or ``[horizon, S, A]``."""
    occupancy: Tensor
    """Of that policy: discounted visits of states and actions, ``[S, A]``, not normalised."""
    gap: float
    """Largest difference between a feature's expectation under it and under the demonstrator."""
    iterations: int
    """Evaluations of the dual."""

    def term(self) -> "TableReward":
        """The reward as a term of an expression, on Discrete observations and actions."""
        return TableReward(self.reward)


def feature_table(mdp: MDP, features: str | Tensor) -> Tensor:
    """Features ``[S, A, F]`` by name or as given.

    ``"state"``: which state is acted in. ``"state_action"``: which pair. ``"next_state"``: the probability of each next
    state, so that the weights are paid on arrival (terminal states included).

    Raises:
        ValueError: The name is unknown, or the shape does not fit.
    """
    states, actions = mdp.states, mdp.actions
    eye = torch.eye(states, dtype=torch.float64, device=mdp.device)
    if isinstance(features, str):
        if features == "state":
            return eye[:, None].expand(states, actions, states)
        if features == "state_action":
            pairs = torch.eye(states * actions, dtype=torch.float64, device=mdp.device)
            return pairs.reshape(states, actions, states * actions)
        if features == "next_state":
            return mdp.dense().prob
        raise ValueError(f"features={features!r}: one of {', '.join(FEATURES)}, or a tensor [S, F] or [S, A, F]")
    table = features.to(torch.float64)
    if table.ndim == 2 and len(table) == states:
        table = table[:, None].expand(states, actions, -1)
    if table.ndim != 3 or table.shape[:2] != (states, actions) or not bool(torch.isfinite(table).all()):
        raise ValueError(
            f"features are finite, [S, F] or [S, A, F] for S={states}, A={actions}; got {tuple(table.shape)}"
        )
    return table


def mce_irl(
    mdp: MDP,
    demonstrator: Tensor | Demonstrations,
    *,
    features: str | Tensor = "state_action",
    horizon: int | None = None,
    temperature: float = 1.0,
    l2: float = 0.0,
    tolerance: float = 1e-7,
    max_iterations: int = 2000,
) -> Recovered:
    """Find a reward whose soft optimum has the demonstrator's expected features.

    Args:
        mdp: The dynamics, start and discount; its own reward is not looked at.
        demonstrator: Its visits of states and actions, ``[S, A]``: with a horizon ``sum_t gamma^t P(s_t, a_t)`` over
            the horizon, else over all time (``envs.tabular.solve.occupancy``); or demonstrations, whose average it is.
        features: A name of ``FEATURES``, or ``[S, F]`` or ``[S, A, F]``.
        horizon: Steps of an episode; None for discounted without end.
        temperature: Of the soft optimum.
        l2: Weight of ``|theta|^2 / 2``: where the demonstrator never does something, the weights run off without it.
        tolerance: Stop when no feature differs by more (with ``l2``: when the gradient is that small).
        max_iterations: Evaluations of the dual at most; the result says how far it came.

    Raises:
        ValueError: The demonstrator's visits are not those of any policy (their amount is wrong), or shapes do not fit.
    """
    table = feature_table(mdp, features)
    target = demonstrator if isinstance(demonstrator, Tensor) else empirical_occupancy(mdp, demonstrator, horizon)
    target = target.to(torch.float64)
    if target.shape != (mdp.states, mdp.actions) or not bool((torch.isfinite(target) & (target >= 0)).all()):
        raise ValueError(f"the demonstrator's visits are [S, A] and not negative; got {tuple(target.shape)}")
    wanted = torch.einsum("sa,saf->f", target, table)
    weights = torch.zeros(table.shape[-1], dtype=torch.float64, device=mdp.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights], max_iter=max_iterations, max_eval=max_iterations, tolerance_grad=tolerance, tolerance_change=0.0,
        history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip
    count = 0

    def dual() -> Tensor:
        nonlocal count
        count += 1
        with torch.no_grad():
            _, value, visited = _solve(mdp, table @ weights, horizon, temperature)
            have = torch.einsum("sa,saf->f", visited, table)
            weights.grad = have - wanted + l2 * weights
            return value - wanted @ weights + 0.5 * l2 * weights.square().sum()

    solver.step(dual)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        reward = table @ weights
        soft, _, visited = _solve(mdp, reward, horizon, temperature)
        gap = float((torch.einsum("sa,saf->f", visited, table) - wanted).abs().max())
    return Recovered(reward, weights.detach(), soft.policy, visited, gap, count)


def _solve(mdp: MDP, reward: Tensor, horizon: int | None, temperature: float) -> tuple[SoftOptimum, Tensor, Tensor]:
    """Soft optimum, its value from the start, and its discounted visits ``[S, A]``."""
    paid = mdp.with_reward(reward)
    soft = soft_value_iteration(paid, temperature, horizon=horizon)
    if horizon is None:
        return soft, (mdp.start * soft.values).sum(), occupancy(paid, soft.policy)
    each = visits(paid, soft.policy, horizon)
    discount = mdp.discount ** torch.arange(horizon, dtype=torch.float64, device=mdp.device)
    return soft, (mdp.start * soft.values[0]).sum(), (discount[:, None, None] * each).sum(0)


def empirical_occupancy(mdp: MDP, demos: Demonstrations, horizon: int | None = None) -> Tensor:
    """Average discounted visits of demonstrations, ``[S, A]``.

    Args:
        mdp: Says the sizes and the discount.
        demos: On Discrete observations and actions.
        horizon: Steps beyond it are left out.

    Raises:
        ValueError: They are of other spaces.
    """
    sizes = (mdp.states, mdp.actions)
    for space, size in zip((demos.observation_space, demos.action_space), sizes):
        if not isinstance(space, spaces.Discrete) or space.start != 0 or int(space.n) != size:
            raise ValueError(f"demonstrations in {space}, and the MDP has {size}: they are of another world")
    x = demos.stretch()
    weight = mdp.discount ** x.t.double()
    if horizon is not None:
        weight = torch.where(x.t < horizon, weight, 0.0)
    flat = torch.zeros(mdp.states * mdp.actions, dtype=torch.float64)
    flat.index_add_(0, x.obs * mdp.actions + x.action, weight)
    return (flat / demos.episodes).reshape(sizes)


class TableReward(Pure):
    """A reward ``[S, A]`` as a term, for Discrete observations and actions.

    Args:
        table: Float ``[S, A]``.

    Raises:
        ValueError: The table is not of two axes, or has numbers that are not finite.
    """

    saved: tuple[str, ...] = ("table",)

    def __init__(self, table: Tensor) -> None:
        if table.ndim != 2 or not bool(torch.isfinite(table).all()):
            raise ValueError(f"a table of rewards is finite and [S, A]; got {tuple(table.shape)}")
        self.table = table.detach().float()

    def bind(self, world: World) -> None:
        """Hold the table against the spaces.

        Raises:
            ValueError: They are of other sizes.
        """
        for space, size in zip((world.observation_space, world.action_space), self.table.shape):
            if not isinstance(space, spaces.Discrete) or int(space.n) != size:
                raise ValueError(f"a table of rewards {tuple(self.table.shape)} for {space}: it is of another world")
        self.table = self.table.to(world.device)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward of each row."""
        obs: Any = x.obs
        action: Any = x.action
        last_s, last_a = (n - 1 for n in self.table.shape)
        return self.table[obs.clamp(0, last_s), action.clamp(0, last_a)]  # rows that are not valid hold anything

    @classmethod
    def examples(cls) -> list[Term]:
        """None: a table is of one world."""
        return []
