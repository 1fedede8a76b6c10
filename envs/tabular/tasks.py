"""Tasks over propositions, as machines: facts about Office and Craft world that solvers and reward machines share.

A task is a finite machine whose edges are guarded by conjunctions of propositions, such as ``"coffee&!plant"``. This
file knows no reward terms: ``cairn.shaping`` reads the same tables for its machines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .mdp import MDP
from .scene import Scene


class Edge(NamedTuple):
    """From machine state ``source`` to ``target`` where ``guard`` holds, paying ``reward``."""

    source: int
    guard: str
    target: int
    reward: float


@dataclass(frozen=True)
class Task:
    """A machine: states 0 (the first) to ``states - 1``, of which ``end`` is the accepting one.

    A transition for which no edge is given ends the episode without reward (the paper's convention).
    """

    name: str
    states: int
    end: int
    edges: tuple[Edge, ...]


def in_order(name: str, steps: Mapping[str, Sequence[str]], avoid: Sequence[str] = ()) -> Task:
    """The task of making things true one by one, each after those it needs; the last pays 1 and ends.

    Args:
        name: The task's name.
        steps: Proposition to the propositions that have to come before it. The last entry needs all others.
        avoid: Propositions that end the episode without reward.

    Returns:
        Machine states are the sets of steps done, the smallest first; the full set is ``end``.
    """
    names = list(steps)
    done: list[frozenset[str]] = [frozenset()]
    for now in done:  # grows while it is read
        for step in names:
            after = now | {step}
            if step not in now and set(steps[step]) <= now and after not in done:
                done.append(after)
    safe = "".join(f"&!{p}" for p in avoid)
    edges = []
    for source, now in enumerate(done[:-1]):
        open_ = [s for s in names if s not in now and set(steps[s]) <= now]
        edges.append(Edge(source, "&".join(f"!{s}" for s in open_) + safe, source, 0.0))
        for i, step in enumerate(open_):
            # Where two become true at once the first counts.
            guard = "&".join([*(f"!{s}" for s in open_[:i]), step]) + safe
            target = done.index(now | {step})
            edges.append(Edge(source, guard, target, float(target == len(done) - 1)))
    return Task(name, len(done), len(done) - 1, tuple(edges))


def falls_paid(task: Task, falls: Sequence[str]) -> Task:
    """The task where a fall from the last stage counts as its end, and is paid as that is.

    So the code of Toro Icarte et al. (JAIR 2022) steps its machines: whatever ends an episode leads to one final state,
    and what is paid on the way there is looked up by the two states alone.

    Args:
        task: Without edges of its own for the falls.
        falls: The propositions that end the episode.
    """
    last = [edge for edge in task.edges if edge.target == task.end]
    return replace(task, edges=(*task.edges, *(edge._replace(guard=fall) for edge in last for fall in falls)))


def holds(guard: str, propositions: Sequence[str], labels: Tensor) -> Tensor:
    """Where a guard is true: bool ``[L, P]`` to bool ``[L]``.

    Args:
        guard: Literals joined by ``&``, a ``!`` before those that must be false; empty is always true.
        propositions: Names of the P columns.
        labels: Which are true.

    Raises:
        ValueError: The guard names an unknown proposition.
    """
    out = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    for literal in filter(None, (part.strip() for part in guard.split("&"))):
        name = literal.lstrip("!").strip()
        if name not in propositions:
            raise ValueError(f"the guard {guard!r} names {name!r}; the propositions are {', '.join(propositions)}")
        column = labels[:, list(propositions).index(name)]
        out &= ~column if literal.startswith("!") else column
    return out


def table(task: Task, propositions: Sequence[str], labels: Tensor) -> tuple[Tensor, Tensor]:
    """The machine's steps under L labellings.

    Returns:
        ``target`` int64 ``[U, L]``, -1 where no edge is given, and ``reward`` float64 ``[U, L]``. The end stays.

    Raises:
        ValueError: Two edges to different states hold at once.
    """
    target = torch.full((task.states, len(labels)), -1, dtype=torch.int64)
    reward = torch.zeros(task.states, len(labels), dtype=torch.float64)
    target[task.end] = task.end
    for edge in task.edges:
        true = holds(edge.guard, propositions, labels)
        clash = true & (target[edge.source] >= 0) & (target[edge.source] != edge.target)
        if bool(clash.any()):
            event = [p for p, on in zip(propositions, labels[clash][0].tolist()) if on]
            raise ValueError(f"task {task.name!r}: in state {edge.source} two edges hold under {event or 'no event'}")
        target[edge.source, true] = edge.target
        reward[edge.source, true] = edge.reward
    return target, reward


def with_tasks(world: Scene, tasks: Sequence[Task], discount: float = 0.9) -> Scene:
    """A world in which tasks are to be done: its cells times the machines' states.

    State ``cell * M + m``. m runs over the machine states of all tasks that are not final, task by task, then comes the
    one of success, then the one of failure (both terminal, in whatever cell). With several tasks, each episode has the
    next one in turn. Facts: ``cell``, ``machine`` (m) and ``task`` (index; the number of tasks after the end).

    Args:
        world: Without rewards or ends of its own, and with one first state; its labels are read on entering a cell.
        tasks: At least one.
        discount: The discount.

    Raises:
        ValueError: The world does not fit, or a guard names an unknown proposition.
    """
    if world.labels is None or bool(world.mdp.terminal.any()) or not tasks:
        raise ValueError("tasks need a world with propositions and without ends of its own, and there is at least one")
    base = world.mdp.sparse()
    first = int(base.start.argmax())
    if base.successors is None or float(base.start[first]) != 1.0:
        raise ValueError("the world has more than one first state; tasks begin in one")
    machines, task_of, names = _union(tasks, world.propositions, world.labels)
    many, success = len(task_of), len(task_of) - 2
    target, reward = machines  # [M, C]: by the cell that is entered
    successors = base.successors[:, None] * many + target[:, base.successors].transpose(0, 1)  # [C, M, A, K]
    rewards = reward[:, base.successors].transpose(0, 1)

    states = torch.arange(base.states * many)
    machine, task = states % many, torch.tensor(task_of)
    turns = torch.tensor([first * many + task_of.index(i) for i in range(len(tasks))])
    start = torch.zeros(len(states), dtype=torch.float64)
    start[turns] = 1.0 / len(tasks)
    mdp = MDP(
        base.prob.repeat_interleave(many, 0), rewards.flatten(0, 1), start=start, terminal=machine >= success,
        discount=discount, successors=successors.flatten(0, 1),
    )  # fmt: skip
    place = None if world.place is None else world.place.repeat_interleave(many, 0)
    return replace(
        world, mdp=mdp, success=machine == success, labels=world.labels.repeat_interleave(many, 0), turns=turns,
        place=place, facts={"cell": states // many, "machine": machine, "task": task[machine]},
        captions=tuple(names[m] for m in machine.tolist()),
    )  # fmt: skip


def _union(
    tasks: Sequence[Task], propositions: Sequence[str], labels: Tensor
) -> tuple[tuple[Tensor, Tensor], list[int], list[str]]:
    """All tasks as one machine: target and reward ``[M, L]``, the task of each state, and the states' names."""
    live = [[u for u in range(task.states) if u != task.end] for task in tasks]
    success = sum(map(len, live))
    failure = success + 1
    targets, rewards, names = [], [], list[str]()
    task_of: list[int] = []
    for i, task in enumerate(tasks):
        index = torch.full((task.states + 1,), failure)  # the last entry is what -1, no edge, reads
        index[live[i]] = torch.arange(len(live[i])) + len(task_of)
        index[task.end] = success
        target, reward = table(task, propositions, labels)
        targets.append(index[target[live[i]]])
        rewards.append(reward[live[i]])
        task_of += [i] * len(live[i])
        names += [f"{task.name}, stage {u}" for u in live[i]]
    ends = torch.tensor([[success], [failure]]).expand(2, len(labels))
    both = torch.cat([*targets, ends]), torch.cat([*rewards, torch.zeros(2, len(labels), dtype=torch.float64)])
    return both, [*task_of, len(tasks), len(tasks)], [*names, "done", "failed"]
