"""The exact MDP of a reward machine's task on a tabular world."""

import torch
from torch import Tensor

from ..envs.tabular.average import long_run
from ..envs.tabular.mdp import MDP
from ..envs.tabular.scene import Scene
from .machines import RewardMachine


def machine_mdp(scene: Scene, machine: RewardMachine, discount: float | None = None) -> MDP:
    """A world times a machine: state ``s * U + u``, numbered as ``MachineEnv`` shows it.

    Optimal values, occupancies and long runs of machines and compiled formulas are then those of ``envs.tabular``. The
    world's own reward plays no part; its ends stay ends. The world's first letter is read after the first step.

    Args:
        scene: The world. Labels read its facts ``[S, ...]``, ``events`` among them.
        machine: The task; where machines take turns, the episodes' first states are equally likely.
        discount: Of the result; the world's own, by default.

    Raises:
        FactError: A label reads a fact that the world has not.
        ValueError: The machine reads observations.
    """
    if machine.on != "facts":
        raise ValueError("machine_mdp reads labels from the world's facts, and this machine reads observations")
    base = scene.mdp.sparse()
    assert base.successors is not None
    many = len(machine)
    letter = machine.letters(scene.fact_tables())
    target = machine.target[:, letter]  # [U, S], by the state that is entered
    paid = machine.reward[:, letter].double()
    successors = base.successors[:, None] * many + target[:, base.successors].transpose(0, 1)
    reward = paid[:, base.successors].transpose(0, 1)
    start = torch.zeros(base.states, many, dtype=torch.float64)
    for u in machine.starts.tolist():
        start[:, u] += base.start / len(machine.starts)
    terminal = (base.terminal[:, None] | machine.final[None, :]).flatten()
    return MDP(
        base.prob.repeat_interleave(many, 0), reward.flatten(0, 1), start=start.flatten(), terminal=terminal,
        discount=base.discount if discount is None else discount, successors=successors.flatten(0, 1),
    )  # fmt: skip


def satisfaction(scene: Scene, machine: RewardMachine, policy: Tensor) -> Tensor:
    """The probability that a world's policy satisfies a co-safe formula: that its machine comes to "accept".

    Args:
        scene: The world.
        machine: What ``ltl_machine`` made.
        policy: ``[S, A]`` of the world alone, or ``[S * U, A]`` of the world times the machine.

    Returns:
        float64 scalar, from the world's first states.

    Raises:
        ValueError: The machine has no state "accept".
    """
    if "accept" not in machine.states:
        raise ValueError(f"the machine has no state 'accept'; it has {', '.join(machine.states)}")
    both = machine_mdp(scene, machine)
    many = len(machine)
    if policy.shape[0] == scene.mdp.states:
        policy = policy.repeat_interleave(many, 0)
    there = (torch.arange(both.states) % many == machine.states.index("accept")).double()
    # Ends are loops; standing in "accept" for ever pays 1 a step, whose long run is the probability of getting there.
    endless = MDP(both.prob, there[:, None].expand(-1, both.actions), start=both.start, successors=both.successors)
    return (both.start * long_run(endless, policy)).sum()
