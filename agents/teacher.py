"""A teacher beside a tabular learner: it designs the reward anew, for the learner as it is, every so often."""

from collections.abc import Sequence
from typing import Any

from ..envs.tabular.mdp import MDP
from ..shaping.design import DesignedReward, design_expadard
from ..shaping.design import teacher as solve_teacher


class AdaptiveTeacher:
    """EXPADARD as a callback of a tabular agent: ``agent.learn(steps, callback=AdaptiveTeacher(mdp, term, ...))``.

    Devidze et al., "Informativeness of Reward Functions in Reinforcement Learning", AAMAS 2024, algorithm 1.

    Args:
        mdp: The MDP with the original reward.
        term: The ``DesignedReward`` that the agent earns, with a table for each lane (``[N, S, A]``).
        r_max: Bound on the reward.
        every: Steps of each lane between two designs (the paper: 100 episodes).
        lanes: Which lanes are taught so; all, by default.
        kwargs: For ``design_expadard``.
    """

    def __init__(
        self,
        mdp: MDP,
        term: DesignedReward,
        *,
        r_max: float,
        every: int,
        lanes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if term.table.ndim != 3:
            raise ValueError("each lane is a learner of its own: give DesignedReward a table for each, [N, S, A]")
        if every < 1:
            raise ValueError(f"every={every}: a number of steps, at least 1")
        self.mdp, self.term, self.r_max, self.every, self.kwargs = mdp, term, r_max, every, kwargs
        self.lanes = range(len(term.table)) if lanes is None else lanes
        self.known = solve_teacher(mdp)

    def __call__(self, agent: Any) -> None:
        """Design anew, when it is time."""
        if agent.steps % self.every == 0:
            self.teach(agent)

    def teach(self, agent: Any) -> None:
        """Design for every lane's present policy."""
        policy = agent.policy().double()
        for lane in self.lanes:
            design = design_expadard(self.mdp, policy[lane], r_max=self.r_max, known=self.known, **self.kwargs)
            self.term.table[lane] = design.reward.float()
