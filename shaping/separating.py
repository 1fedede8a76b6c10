"""Five tasks that no Markov reward expresses, each in the formalism that does, on worlds of a few states.

Subramani, Williams, Heitmann, Holm, Griffin and Skalse, "On the expressivity of objective-specification formalisms in
reinforcement learning" (2024): regularised, outer non-linear, machine, temporal and limit-average objectives can each
order policies as the others cannot. The worlds here are our own, as small as they can be; what is shown of each is that
no reward r(s, a, s') and no discount below 1 orders its policies in that way (``contradiction``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..envs.tabular.average import best_average, long_run
from ..envs.tabular.mdp import MDP
from ..envs.tabular.scene import Scene
from ..envs.tabular.soft import soft_value_iteration
from ..envs.tabular.solve import occupancy, policy_return, value_iteration
from .ltl import ltl_machine
from .machine_world import machine_mdp, satisfaction
from .machines import RewardMachine


@dataclass(frozen=True)
class Separation:
    """An objective over the stationary policies of a world, and an order of some of them that it makes."""

    name: str
    mdp: MDP
    """The world; its reward, where it has one, is what the objective is about."""
    objective: Callable[[Tensor], float]
    """Of a policy ``[S, A]``."""
    policies: Mapping[str, Tensor]
    better: Sequence[tuple[str, str]]
    """The first is strictly better than the second."""
    equal: Sequence[tuple[str, str]]
    """The two are as good as each other."""
    solve: Callable[[], float]
    """The best value of the objective, found as its formalism finds it."""


def contradiction(task: Separation, discount: float) -> float:
    """How far the task's order is from impossible for Markov rewards with this discount: 0 means impossible.

    A return is linear in the occupancy, J(pi) = <r, mu(pi)>. Where the differences mu(a) - mu(b) of the pairs with a
    better than b sum to a combination of those of equal pairs, the sum of the returns' differences is above 0 and 0 at
    once (Farkas' lemma): no reward makes that order. Returned is the length of what the combination leaves.
    """
    mdp = task.mdp.with_discount(discount)
    mu = {name: occupancy(mdp, policy).flatten() for name, policy in task.policies.items()}
    total = torch.stack([mu[a] - mu[b] for a, b in task.better]).sum(0)
    if not task.equal:
        return float(total.norm())
    basis = torch.stack([mu[a] - mu[b] for a, b in task.equal], 1)
    share = torch.linalg.lstsq(basis, total[:, None], driver="gelsd").solution
    return float((total - (basis @ share)[:, 0]).norm())


def _mixed(shares: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(shares, dtype=torch.float64)


def _choice(reward: Sequence[float]) -> MDP:
    """One choice between two actions, and the end."""
    return MDP(
        [[[0.0, 1.0]] * 2, [[0.0, 1.0]] * 2], [[[r] * 2 for r in reward], [[0.0] * 2] * 2], terminal=[False, True]
    )


def regularised(temperature: float = 1.0) -> Separation:
    """To be unpredictable: entropy alone. To mix is better than both of what is mixed."""
    mdp = _choice([0.0, 0.0])

    def objective(policy: Tensor) -> float:
        cost = temperature * torch.special.xlogy(policy, policy).sum(-1)
        return float(-(occupancy(mdp, policy).sum(-1) * cost).sum())

    ends = [[1.0, 0.0]]
    policies = {"one": _mixed([[1, 0], *ends]), "other": _mixed([[0, 1], *ends]), "both": _mixed([[0.5, 0.5], *ends])}
    return Separation(
        "regularised", mdp, objective, policies, [("both", "one"), ("both", "other")], [],
        lambda: objective(soft_value_iteration(mdp, temperature).policy),
    )  # fmt: skip


def outer_nonlinear(wanted: float = 0.5) -> Separation:
    """To earn neither too little nor too much: -(J - 1/2)^2, a function of the return and not of rewards."""
    mdp = _choice([0.0, 1.0])

    def objective(policy: Tensor) -> float:
        return float(-((policy_return(mdp, policy) - wanted) ** 2))

    ends = [[1.0, 0.0]]
    policies = {"little": _mixed([[1, 0], *ends]), "much": _mixed([[0, 1], *ends]), "half": _mixed([[0.5, 0.5], *ends])}

    def solve() -> float:
        most, least = value_iteration(mdp).policy, value_iteration(mdp.with_reward(-mdp.reward)).policy
        high, low = policy_return(mdp, most), policy_return(mdp, least)
        share = ((wanted - low) / (high - low)).clamp(0.0, 1.0)  # every return between them can be had by mixing
        return objective(share * most + (1 - share) * least)

    better = [("half", "little"), ("half", "much")]
    return Separation("outer non-linear", mdp, objective, policies, better, [], solve)


def machine() -> Separation:
    """To choose differently the second time: what was chosen the first time is no longer to be seen."""
    # 0 -> 1 or 2 -> 3 -> 4 or 5, the end; labels say which was entered.
    successors = torch.tensor([[1, 2], [3, 3], [3, 3], [4, 5], [4, 4], [5, 5]])[..., None]
    ends = torch.arange(6) >= 4
    mdp = MDP(torch.ones(6, 2, 1), torch.zeros(6, 2, 1), terminal=ends, successors=successors, discount=0.9)
    labels = torch.tensor([[s in (1, 4), s in (2, 5)] for s in range(6)])
    scene = Scene(mdp, propositions=("x", "y"), labels=labels)
    task = RewardMachine(
        [("none", "x", "x", 0), ("none", "y & !x", "y", 0), ("x", "y", "done", 1), ("y", "x", "done", 1)],
        {"x": ("events", 0), "y": ("events", 1)}, final=["done"],
    )  # fmt: skip
    whole = machine_mdp(scene, task)

    def objective(policy: Tensor) -> float:
        return float(policy_return(whole, policy.repeat_interleave(len(task), 0)))

    policies = {}
    for first, second in ("xx", "xy", "yx", "yy"):
        table = torch.zeros(6, 2, dtype=torch.float64)
        table[:, 0] = 1.0
        for state, letter in ((0, first), (3, second)):
            table[state] = _mixed([[letter == "x", letter == "y"]])[0]
        policies[first + second] = table
    return Separation(
        "machine", mdp, objective, policies, [("xy", "xx"), ("yx", "yy")], [],
        lambda: float((whole.start * value_iteration(whole).values).sum()),
    )  # fmt: skip


def _road(toll: float) -> MDP:
    """State 0: stay, or pay the toll and go on to state 1, which pays 1 a step for ever."""
    prob = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    return MDP(prob, torch.tensor([[0.0, -toll], [1.0, 1.0]])[..., None], discount=0.9)


def _goers() -> dict[str, Tensor]:
    return {name: _mixed([[1 - p, p], [1, 0]]) for name, p in (("never", 0), ("sometimes", 0.5), ("at once", 1))}


def temporal() -> Separation:
    """To get there some time: how soon is all the same, and never is not."""
    mdp = _road(0.0).with_reward(torch.zeros(2, 2))
    scene = Scene(mdp, propositions=("there",), labels=torch.tensor([[False], [True]]))
    formula = ltl_machine("F there", {"there": ("events", 0)})
    whole = machine_mdp(scene, formula)

    def solve() -> float:
        # Undiscounted, the paid edge into "accept" is worth the probability of ever taking it.
        return float((whole.start * value_iteration(whole.with_discount(1.0)).values).sum())

    order = [("sometimes", "never"), ("at once", "never")]
    return Separation(
        "temporal", mdp, lambda policy: float(satisfaction(scene, formula, policy)), _goers(), order,
        [("sometimes", "at once")], solve,
    )  # fmt: skip


def limit_average(toll: float = 10.0) -> Separation:
    """To earn most per step in the long run: any price that is paid once is worth paying."""
    mdp = _road(toll)

    def objective(policy: Tensor) -> float:
        return float((mdp.start * long_run(mdp, policy)).sum())

    order = [("sometimes", "never"), ("at once", "never")]
    return Separation(
        "limit-average", mdp, objective, _goers(), order, [("sometimes", "at once")],
        lambda: float(best_average(mdp).gain),
    )  # fmt: skip


SEPARATING: tuple[Callable[[], Separation], ...] = (regularised, outer_nonlinear, machine, temporal, limit_average)
