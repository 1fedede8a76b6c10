"""The five tasks that separate formalisms: each solved in its own, and beyond every Markov reward."""

from collections.abc import Callable

import pytest
import torch

from cairn.envs.tabular import policy_return, random_mdp
from cairn.envs.tabular.objectives import deterministic_policies
from cairn.shaping.separating import SEPARATING, Separation, contradiction

TASKS = pytest.mark.parametrize("make", SEPARATING, ids=lambda f: f.__name__)
# By hand: ln 2; a return of exactly 1/2; 1 paid at the third step, discounted twice; certainty; 1 a step.
BEST = {
    "regularised": 0.6931471805599453,
    "outer non-linear": 0.0,
    "machine": 0.9**2,
    "temporal": 1.0,
    "limit-average": 1.0,
}


@TASKS
def test_the_objective_orders_policies_as_it_says(make: Callable[[], Separation]) -> None:
    task = make()
    value = {name: task.objective(policy) for name, policy in task.policies.items()}
    assert all(value[a] > value[b] + 0.1 for a, b in task.better), value
    assert all(value[a] == pytest.approx(value[b], abs=1e-9) for a, b in task.equal), value


@TASKS
def test_solved_in_its_formalism(make: Callable[[], Separation]) -> None:
    """The optimum is that by hand, some policy listed has it, and no deterministic stationary policy has more."""
    task = make()
    assert task.solve() == pytest.approx(BEST[task.name], abs=1e-9)
    assert max(task.objective(policy) for policy in task.policies.values()) == pytest.approx(BEST[task.name], abs=1e-9)
    for policy in deterministic_policies(task.mdp):
        assert task.objective(policy) <= BEST[task.name] + 1e-9


@TASKS
def test_no_markov_reward_makes_that_order(make: Callable[[], Separation]) -> None:
    task = make()
    for discount in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999]:
        assert contradiction(task, discount) < 1e-9
    # What the certificate says, tried: a thousand rewards, and none orders them so.
    generator = torch.Generator().manual_seed(0)
    for discount in (0.3, 0.9):
        shape = (1000, task.mdp.states, task.mdp.actions, 1)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        many = task.mdp.dense().with_reward(noise.expand(*shape[:3], task.mdp.states), discount)
        value = {name: policy_return(many, policy.expand(1000, -1, -1)) for name, policy in task.policies.items()}
        order = torch.stack([value[a] > value[b] + 1e-9 for a, b in task.better]).all(0)
        for a, b in task.equal:
            order &= (value[a] - value[b]).abs() < 1e-9
        assert not bool(order.any())


def test_the_certificate_is_silent_about_what_markov_rewards_can_say() -> None:
    """The order of an actual return leaves a remainder; so do the tasks with one of their pairs turned around."""
    mdp = random_mdp(3, 2, seed=1)
    policies = {str(i): p for i, p in enumerate(deterministic_policies(mdp))}
    value = {name: float(policy_return(mdp, p)) for name, p in policies.items()}
    names = sorted(value, key=lambda name: -value[name])
    better = list(zip(names, names[1:]))
    task = Separation(
        "markov", mdp, lambda p: float(policy_return(mdp, p)), policies, better, [], lambda: value[names[0]]
    )
    assert contradiction(task, mdp.discount) > 0.1
    for make in SEPARATING:
        task = make()
        (a, b), *rest = task.better
        turned = Separation(task.name, task.mdp, task.objective, task.policies, [(b, a), *rest], [], task.solve)
        assert contradiction(turned, 0.9) > 0.1
