"""Rewards designed by a teacher who knows the MDP: EXPRD and EXPADARD, as linear programs.

Devidze, Radanovic, Kamalaruban and Singla, "Explicable Reward Design for Reinforcement Learning Agents" (EXPRD),
NeurIPS 2021; Devidze, Kamalaruban and Singla, "Informativeness of Reward Functions in Reinforcement Learning"
(EXPADARD), AAMAS 2024. The programs need cvxpy, the extra ``design``; all else here does not.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..envs.tabular.mdp import MDP, check_policy
from ..envs.tabular.solve import best_actions, epsilon_greedy, greedy, occupancy, value_iteration
from .stretch import Stretch
from .term import Pure, Term

HORIZONS = (1, 4, 8, 16, 32)
SLACK = 1e-5  # by which the gaps are relaxed, so that the original reward is feasible after rounding


class DesignError(ValueError):
    """No reward meets the constraints; nothing was designed."""


class Teacher(NamedTuple):
    """What a teacher knows of one MDP."""

    policy: Tensor
    """One optimal policy, deterministic, ``[S, A]``."""
    optimal: Tensor
    """Bool ``[S, A]``: all optimal actions; every action of terminal states."""
    gaps: Tensor
    """delta_s ``[S]``: V*(s) less the value of the best action that is not optimal; 0 where there is none."""
    q: Tensor
    """Q*, ``[S, A]``."""


class Design(NamedTuple):
    """A designed reward."""

    reward: Tensor
    """``[S, A]``, float64."""
    active: tuple[int, ...]
    """States where it may differ from 0."""
    objective: float
    """What was maximised."""


class DesignedReward(Pure):
    """A reward from a table of states and actions, in place of the task's.

    Args:
        table: ``[S, A]``, or ``[N, S, A]`` with one for each lane; may be written to while an agent learns.
    """

    saved = ("table",)

    def __init__(self, table: Tensor) -> None:
        self.table = torch.as_tensor(table, dtype=torch.float32).clone()
        if self.table.ndim not in (2, 3) or not bool(torch.isfinite(self.table).all()):
            raise ValueError(
                f"a designed reward is a finite table [S, A] or [N, S, A], and got shape {tuple(self.table.shape)}"
            )

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``table[s, a]``."""
        if not isinstance(x.obs, Tensor) or not isinstance(x.action, Tensor) or x.obs.shape != x.rows:
            raise ValueError("DesignedReward is for observations and actions that are numbers")
        out = torch.zeros(x.shape, device=x.device)
        lane, state, action = x.lane[x.valid], x.obs[x.valid].long(), x.action[x.valid].long()
        found = self.table[state, action] if self.table.ndim == 2 else self.table[lane, state, action]
        return out.masked_scatter(x.valid, found)

    @classmethod
    def examples(cls) -> list[Term]:
        """Numbered observations only, so the laws are tested where they are."""
        return []


def teacher(mdp: MDP) -> Teacher:
    """Solve one MDP for what the programs below ask of a teacher.

    Raises:
        ValueError: It is a batch.
    """
    if mdp.batch:
        raise ValueError(f"a teacher designs for one MDP, and {mdp} is a batch: take one with mdp[i]")
    q = value_iteration(mdp).q
    optimal = best_actions(q, 1e-8) | mdp.terminal[:, None]
    gap = torch.where(optimal, torch.inf, q.amax(-1, keepdim=True) - q).amin(-1)
    return Teacher(greedy(optimal.double()), optimal, torch.where(torch.isfinite(gap), gap, 0.0), q)


def advantages(mdp: MDP, policy: Tensor, horizon: int | None = None) -> Tensor:
    """The matrix that takes a reward to how much worse each action is than the policy's.

    ``A = (I_pi - I) sum_(k <= h) (gamma P_pi)^k``, without end where ``horizon`` is None:
    ``(A R)(s, a) = Q(s, pi(s)) - Q(s, a)`` of the policy over h more steps (EXPRD, section 3). Terminal states lead
    nowhere.

    Args:
        mdp: One MDP.
        policy: Deterministic, ``[S, A]``.
        horizon: h, at least 0.

    Returns:
        Float64 ``[S * A, S * A]``.
    """
    check_policy(policy, mdp)
    states, actions = mdp.states, mdp.actions
    size = states * actions
    ends = mdp.terminal
    prob = torch.where(ends[:, None, None] | ends, 0.0, mdp.dense().prob)
    step = mdp.discount * (prob[..., None] * policy).reshape(size, size)
    eye = torch.eye(size, dtype=torch.float64)
    pick = torch.zeros(states, actions, states, actions, dtype=torch.float64)
    at = torch.arange(states)
    pick[at, :, at] = policy[:, None, :].expand(states, actions, actions)
    chosen = pick.reshape(size, size) - eye
    if horizon is None:
        solved: Tensor = torch.linalg.solve((eye - step).T, chosen.T)
        return solved.T
    total: Tensor = eye
    power = eye
    for _ in range(horizon):
        power = power @ step
        total = total + power
    return chosen @ total


def informativeness(mdp: MDP, reward: Tensor, horizons: Sequence[int] = HORIZONS) -> float:
    """How soon a reward tells the optimal actions from others: 0 where it does at once, below otherwise (EXPRD, I_R).

    ``- mean over h and s of max(0, max over a not optimal of delta_s - (A_h R)(s, a))``, with delta and the optimal
    policy of the MDP's own reward.

    Args:
        mdp: One MDP.
        reward: ``[S, A]``.
        horizons: H.
    """
    known = teacher(mdp)
    total = 0.0
    for h in horizons:
        worse = (advantages(mdp, known.policy, h) @ reward.double().flatten()).reshape(known.q.shape)
        short = torch.where(known.optimal, -torch.inf, known.gaps[:, None] - worse).amax(-1).clamp_min(0.0)
        total += float(short.sum())
    return -total / float(len(horizons) * mdp.states)


def invariant(mdp: MDP, reward: Tensor, tolerance: float = 1e-6) -> bool:
    """Whether every policy that is optimal under ``reward [S, A]`` is optimal in the MDP, by exact solution."""
    other = best_actions(value_iteration(mdp.with_reward(reward)).q, tolerance)
    return not bool((other & ~teacher(mdp).optimal).any())


def design_exprd(
    mdp: MDP,
    *,
    r_max: float,
    budget: int | None = None,
    active: Iterable[int] | None = None,
    candidates: Iterable[int] | None = None,
    horizons: Sequence[int] = HORIZONS,
    sparsity: float = 0.0,
    state_only: bool = False,
    loss: str = "hinge",
) -> Design:
    """EXPRD: the reward that tells most, keeps the best policies best, and is 0 in all but a few states.

    Maximises ``informativeness - sparsity * |R|_1`` over rewards within ``[-r_max, r_max]``, such that what was not
    optimal is worse by delta_s at least (so an optimal policy of the design is one of the MDP).

    The paper lets informativeness be the sum of any increasing concave function of the margins, and takes the hinge: a
    margin of delta_s says all, whatever r_max. Many rewards are then as good, and the solver returns one in the middle
    of them. That is all the same to Q-learning, the paper's learner, which asks what is larger and not by how much. A
    policy gradient moves by as much as rewards differ, and is drawn to an early end where what it does by chance is
    punished more than the right action is rewarded: for such a learner take ``loss="linear"``, under which the margins
    are as large as r_max allows.

    Args:
        mdp: One MDP with the original reward.
        r_max: Bound on the reward.
        budget: States that may pay, chosen one by one for the best objective, beginning with ``active``; None lets
            ``active`` be all, or every state that is not terminal.
        active: States that may pay from the start; left out, with a budget, those where the MDP's own reward does.
        candidates: States to choose from; all that are not terminal, by default.
        horizons: H.
        sparsity: C_2.
        state_only: The same reward for all actions of a state.
        loss: ``"hinge"`` or ``"linear"``: the margins in place of what they lack of delta_s.

    Raises:
        ImportError: cvxpy is missing: the extra ``design``.
        DesignError: The constraints cannot be met.
        ValueError: Another loss.
    """
    _check_bound(r_max)
    if loss not in ("hinge", "linear"):
        raise ValueError(f"loss={loss!r}: what a margin is worth is its 'hinge' or 'linear'")
    known = teacher(mdp)
    running = (~mdp.terminal).nonzero()[:, 0].tolist()
    if active is None:
        pays = mdp.expected_reward().abs().amax(-1) > 0
        chosen = running if budget is None else [s for s in running if bool(pays[s])]
    else:
        chosen = _states(active, mdp)
    pool = running if candidates is None else _states(candidates, mdp)
    whole = advantages(mdp, known.policy)
    local = [advantages(mdp, known.policy, h) for h in horizons]

    def solve(states: list[int]) -> Design:
        return _exprd(mdp, known, whole, local, states, r_max, sparsity, state_only, loss)

    if budget is None:
        return solve(chosen)
    if budget < len(chosen):
        raise ValueError(f"budget={budget}: there are {len(chosen)} active states already")
    best: Design | None = None
    why: DesignError | None = None
    try:
        best = solve(chosen)
    except DesignError as error:  # more states may do
        why = error
    while len(chosen) < budget:
        tried = []
        for state in pool:
            if state not in chosen:
                try:
                    tried.append((solve([*chosen, state]), state))
                except DesignError as error:
                    why = error
        if not tried:
            break
        best, state = max(tried, key=lambda pair: pair[0].objective)
        chosen = [*chosen, state]
    if best is None:
        assert why is not None
        raise why
    return best


def design_expadard(
    mdp: MDP,
    learner: Tensor,
    *,
    r_max: float,
    known: Teacher | None = None,
    epsilon: float = 0.4,
    features: Tensor | None = None,
) -> Design:
    """EXPADARD: the reward from which the learner as it is now would learn most; to be asked anew as it learns.

    Maximises, under EXPRD's constraints, ``sum_s mu*(s) sum_a mu(s, a) pi(a|s) (A*(s, a) - E_pi A*) (R(s, a) - E_pi
    R)``, pi being the learner's policy, mu its discounted visits and mu* those of the optimal policy, which takes any
    action with probability epsilon (the form of the published experiments).

    Args:
        mdp: One MDP with the original reward.
        learner: The learner's policy, ``[S, A]``.
        r_max: Bound on the reward.
        known: ``teacher(mdp)``, where it is known already.
        epsilon: As above.
        features: ``[S * A, F]``; the reward is a linear function of them. None: any table.

    Raises:
        ImportError: cvxpy is missing: the extra ``design``.
        DesignError: The constraints cannot be met.
    """
    _check_bound(r_max)
    check_policy(learner, mdp)
    known = teacher(mdp) if known is None else known
    better = torch.where(mdp.terminal[:, None], 0.0, known.q - known.q.amax(-1, keepdim=True))
    better = better - (learner * better).sum(-1, keepdim=True)
    reach = occupancy(mdp, epsilon_greedy(known.policy, epsilon), normalise=True).sum(-1, keepdim=True)
    weight = reach * occupancy(mdp, learner) * learner * better
    weight = weight - learner * weight.sum(-1, keepdim=True)
    cp, program = _program(mdp, known, advantages(mdp, known.policy), r_max, features)
    scale = float(weight.abs().max()) or 1.0  # a converged learner leaves next to nothing to maximise
    goal = cp.Maximize((weight.flatten() / scale).numpy() @ program.reward)
    _solve(cp, goal, program.constraints, r_max, "these features" if features is not None else "all states")
    reward = torch.as_tensor(program.reward.value).reshape(mdp.states, mdp.actions)
    running = tuple((~mdp.terminal).nonzero()[:, 0].tolist())
    return Design(reward, running, float((weight * reward).sum()))


class _Program(NamedTuple):
    reward: Any
    constraints: list[Any]


def _program(
    mdp: MDP, known: Teacher, whole: Tensor, r_max: float, features: Tensor | None = None
) -> tuple[Any, _Program]:
    """The variable R ``[S * A]`` and what every design must meet."""
    cp = _cvxpy()
    size = mdp.states * mdp.actions
    if features is None:
        reward = cp.Variable(size)
    else:
        if features.shape[0] != size:
            raise ValueError(f"features of shape {tuple(features.shape)} for {size} pairs of state and action")
        reward = features.double().numpy() @ cp.Variable(features.shape[1])
    gap = (torch.where(known.optimal, 0.0, known.gaps[:, None]) / (1 + SLACK)).flatten()
    running = (~mdp.terminal)[:, None].expand(mdp.states, mdp.actions).flatten()
    constraints = [whole[running].numpy() @ reward >= gap[running].numpy(), cp.abs(reward) <= r_max]
    return cp, _Program(reward, constraints)


def _exprd(
    mdp: MDP, known: Teacher, whole: Tensor, local: list[Tensor], active: list[int], r_max: float, sparsity: float,
    state_only: bool, loss: str,
) -> Design:  # fmt: skip
    cp, program = _program(mdp, known, whole, r_max)
    reward, constraints = program.reward, list(program.constraints)
    silent = torch.ones(mdp.states, dtype=torch.bool)
    silent[active] = False
    rows = torch.arange(mdp.states * mdp.actions).reshape(mdp.states, mdp.actions)
    if bool(silent.any()):
        constraints.append(reward[rows[silent].flatten().numpy()] == 0)
    if state_only:
        first = rows[:, :1].expand(-1, mdp.actions - 1).flatten()
        constraints.append(reward[rows[:, 1:].flatten().numpy()] == reward[first.numpy()])
    # e[h, s] is at least what is missing of the gap, for each action that is not optimal; the hinge's is at least 0.
    state, action = (~known.optimal).nonzero().T
    at = state * mdp.actions + action
    missing = cp.Variable((len(local), mdp.states))
    hinged = torch.ones(mdp.states, dtype=torch.bool)
    if loss == "linear":
        hinged[state] = False
    if bool(hinged.any()):
        constraints.append(missing[:, hinged.nonzero()[:, 0].numpy()] >= 0)
    for i, matrix in enumerate(local):
        short = known.gaps[state].numpy() / (1 + SLACK) - matrix[at].numpy() @ reward
        constraints.append(missing[i, state.numpy()] >= short)
    cost = cp.sum(missing) / (len(local) * mdp.states) + sparsity * cp.norm1(reward)
    where = f"{len(active)} active states" if bool(silent[~mdp.terminal].any()) else "all states"
    value = _solve(cp, cp.Maximize(-cost), constraints, r_max, where)
    table = torch.as_tensor(reward.value).reshape(mdp.states, mdp.actions)
    return Design(torch.where(silent[:, None], 0.0, table), tuple(active), value)


def _solve(cp: Any, goal: Any, constraints: list[Any], r_max: float, where: str) -> float:
    problem = cp.Problem(goal, constraints)
    problem.solve(solver=cp.CLARABEL)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise DesignError(
            f"the design is {problem.status}: no reward within [-{r_max}, {r_max}] on {where} makes what is not "
            "optimal worse by as much as it is now. Raise r_max, or let more states pay"
        )
    return float(problem.value)


def _cvxpy() -> Any:
    try:
        import cvxpy  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError("reward design solves convex programs with cvxpy: pip install 'cairn-rl[design]'") from error
    return cvxpy


def _check_bound(r_max: float) -> None:
    if not 0 < r_max < float("inf"):
        raise ValueError(f"r_max={r_max}: the bound on the reward is finite and above 0")


def _states(states: Iterable[int], mdp: MDP) -> list[int]:
    found = list(states)
    if any(not 0 <= s < mdp.states for s in found):
        raise ValueError(f"active states {found}: the states are 0 to {mdp.states - 1}")
    return found


__all__ = [
    "Design", "DesignError", "DesignedReward", "Teacher", "advantages", "design_expadard", "design_exprd",
    "informativeness", "invariant", "teacher",
]  # fmt: skip
