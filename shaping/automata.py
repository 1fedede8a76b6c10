"""Operations on machines as automata: the smallest machine that pays the same."""

import torch
from torch import Tensor

from .machines import RewardMachine


def minimised(machine: RewardMachine, keep: Tensor | None = None) -> tuple[RewardMachine, Tensor]:
    """The smallest machine that pays the same along every word, and ends after the same ones.

    States are split by what they pay and whether they end, and then by where they lead, until nothing splits (Moore,
    "Gedanken-experiments on sequential machines", 1956); those that no episode reaches are left out.

    Args:
        machine: The machine.
        keep: Int64 ``[U]``: states of different numbers stay apart.

    Returns:
        The machine, and int64 ``[U]``: the new state of each old one, -1 where it is never reached. States keep the
        name of the first of those that were merged.
    """
    size = len(machine)
    reached = torch.zeros(size, dtype=torch.bool)
    reached[machine.starts] = True
    while True:
        more = reached.clone()
        more[machine.target[reached & ~machine.final].flatten()] = True
        if torch.equal(more, reached):
            break
        reached = more
    apart = torch.zeros(size, dtype=torch.int64) if keep is None else keep.long()
    apart = 2 * apart + machine.final.long()
    outputs = torch.unique(machine.reward, dim=0, return_inverse=True)[1]
    kind = torch.unique(torch.stack([apart, outputs], 1), dim=0, return_inverse=True)[1]
    while True:
        signature = torch.cat([kind[:, None], kind[machine.target]], 1)
        finer = torch.unique(signature, dim=0, return_inverse=True)[1]
        if int(finer.max()) == int(kind.max()):
            break
        kind = finer
    # Number the classes by their first reached member, the beginning's first.
    order: dict[int, int] = {}
    first: list[int] = []
    for u in [*machine.starts.tolist(), *reached.nonzero()[:, 0].tolist()]:
        if int(kind[u]) not in order:
            order[int(kind[u])] = len(first)
            first.append(u)
    of = torch.tensor([order.get(int(k), -1) if bool(r) else -1 for k, r in zip(kind, reached)])
    rows = torch.tensor(first)
    target = of[machine.target[rows]]
    target = torch.where(machine.final[rows][:, None], torch.arange(len(rows))[:, None], target)
    pairs = dict.fromkeys((int(of[u]), int(of[v])) for u, v in machine.pairs if bool(reached[u]) and of[u] != of[v])
    new = RewardMachine.of_tables(
        [machine.states[u] for u in first], target, machine.reward[rows], machine.labels, machine.final[rows],
        on=machine.on, starts=of[machine.starts].tolist(), pairs=list(pairs),
    )  # fmt: skip
    return new, of
