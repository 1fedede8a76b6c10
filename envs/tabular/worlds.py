"""Small worlds from the papers on reward design, and random MDPs.

Layouts and constants are those of the papers' own experiments: Devidze et al., "Exploration-Guided Reward Shaping"
(EXPLORS, NeurIPS 2022) for Chain and Room, "Informativeness of Reward Functions" (EXPADARD, AAMAS 2024) for LineKey.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..grid.stream import Stream
from .mdp import MDP
from .scene import Scene

LEFT, RIGHT = 0, 1


def random_mdp(
    states: int = 16,
    actions: int = 4,
    *,
    number: int | None = None,
    seed: int = 0,
    successors: int | None = None,
    sparsity: float = 0.0,
    terminals: int = 0,
    discount: float = 0.95,
) -> MDP:
    """Random MDPs (in the manner of "Garnet" problems: Archibald et al., 1995).

    Rewards are standard normal on each transition that is possible, and 0 elsewhere; probabilities are the gaps between
    uniform numbers' logarithms (a flat Dirichlet). Number i of seed s does not depend on how many are asked for.

    Args:
        states: S.
        actions: A.
        number: B, for a batch; None for one MDP.
        seed: The seed.
        successors: How many different next states each state and action has; None for all.
        sparsity: The share of states and actions that pay 0 whatever comes.
        terminals: The last so many states are terminal.
        discount: The discount.

    Raises:
        ValueError: A size is out of range.
    """
    width = states if successors is None else successors
    if states < 1 or actions < 1 or not 1 <= width <= states or not 0 <= terminals < states:
        raise ValueError(
            f"states={states}, actions={actions}, successors={successors}, terminals={terminals}: sizes are at least "
            "1, with at most as many successors as states and at least one state that is not terminal"
        )
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity={sparsity} is a share, in [0, 1]")
    probs, rewards, starts = zip(
        *(_random_tables(states, actions, width, sparsity, seed, i) for i in range(1 if number is None else number))
    )
    start = torch.stack(starts)
    start[:, states - terminals :] = 0.0
    start = start / start.sum(-1, keepdim=True)
    terminal = torch.arange(states) >= states - terminals
    batch = MDP(torch.stack(probs), torch.stack(rewards), start=start, terminal=terminal, discount=discount)
    return batch if number is not None else batch[0]


def _random_tables(
    states: int, actions: int, width: int, sparsity: float, seed: int, index: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(Stream.of(seed, index).bits() >> 1)
    shape = (states, actions, states)
    chosen = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(-1)[..., :width]
    weight = -torch.log1p(-torch.rand((states, actions, width), generator=generator, dtype=torch.float64))
    weight = (weight + 1e-12) / (weight + 1e-12).sum(-1, keepdim=True)
    prob = torch.zeros(shape, dtype=torch.float64).scatter_(-1, chosen, weight)
    reward = torch.randn(shape, generator=generator, dtype=torch.float64) * (prob > 0)
    pays = torch.rand((states, actions, 1), generator=generator, dtype=torch.float64) >= sparsity
    start = -torch.log1p(-torch.rand(states, generator=generator, dtype=torch.float64)) + 1e-12
    return prob, reward * pays, start


def slippery(moves: Tensor, slip: float) -> tuple[Tensor, Tensor]:
    """With probability ``slip`` an action drawn uniformly is taken instead.

    Args:
        moves: Int64 ``[S, A]``, where each action leads.
        slip: In [0, 1].

    Returns:
        ``prob`` and ``successors`` ``[S, A, A]``, or ``[S, A, 1]`` where slip is 0.
    """
    if not 0 <= slip <= 1:
        raise ValueError(f"slip={slip} is a probability")
    states, actions = moves.shape
    if slip == 0:
        return torch.ones(states, actions, 1, dtype=torch.float64), moves[..., None]
    mixed = (1 - slip) * torch.eye(actions, dtype=torch.float64) + slip / actions
    return mixed.expand(states, actions, actions), moves[:, None, :].expand(states, actions, actions)


def chain(
    right: int = 20,
    left: int = 40,
    *,
    reward: float = 1.0,
    distractor: float = 0.0,
    distance: int = 15,
    slip: float = 0.05,
    discount: float = 0.99,
    max_steps: int = 40,
) -> Scene:
    """Chain(n1, n2): a line whose right end pays, and whose left end leads out.

    The agent starts ``right`` steps from the right end and ``left`` from the left one. Going right in the last state
    pays ``reward`` and stays there, step after step until the episode is cut; going left in the first state ends the
    episode. Success is to be in the last state.

    Args:
        right: n1.
        left: n2.
        reward: Of going right at the right end.
        distractor: Paid for going left ``distance`` steps to the left of the start (the paper's variant has 0.01).
        distance: Where the distractor is.
        slip: Chance that an action drawn uniformly is taken instead.
        discount: The discount.
        max_steps: Truncates the episode.
    """
    if right < 1 or left < 0 or (distractor and not 0 <= distance <= left):
        raise ValueError(f"right={right}, left={left}, distance={distance}: right is at least 1, distance within left")
    line = left + right + 1
    out, last = line, line - 1
    at = torch.arange(line)
    moves = torch.stack([torch.where(at == 0, out, at - 1), (at + 1).clamp_max(last)], -1)
    moves = torch.cat([moves, torch.tensor([[out, out]])])
    prob, successors = slippery(moves, slip)
    pays = torch.zeros(line + 1, 2, dtype=torch.float64)
    pays[last, RIGHT] = reward
    if distractor:
        pays[left - distance, LEFT] = distractor
    states = torch.arange(line + 1)
    mdp = MDP(prob, pays, start=left, terminal=states == out, discount=discount, successors=successors)
    letters = ["."] * line
    letters[left], letters[last] = "s", "G"
    return Scene(
        mdp, max_steps, ("left", "right"), success=states == last, drawing=("".join(letters) + " ",),
        place=torch.stack([torch.zeros_like(states), states], -1),
    )  # fmt: skip


def room(
    size: int = 7,
    *,
    reward: float = 1.0,
    distractor: float = 0.0,
    goal_ends: bool = False,
    slip: float = 0.05,
    discount: float = 0.99,
    max_steps: int = 30,
) -> Scene:
    """Room: four rooms joined by four gates, with thin walls; from (1, 1) to the far corner.

    Going right in the goal's corner pays ``reward``; in the other corner, (0, 0), going left or down leads out. The
    defaults are EXPLORS's; EXPADARD has ``reward=10, goal_ends=True, discount=0.95``.

    Args:
        size: Side of the square; the papers have 7.
        reward: Of going right in the goal's corner.
        distractor: Paid for going up in the cell right of the corner that leads out (the paper's variant has 0.01).
        goal_ends: Taking the reward ends the episode; else the agent stays and may take it again.
        slip: Chance that an action drawn uniformly is taken instead.
        discount: The discount.
        max_steps: Truncates the episode.
    """
    if size < 5:
        raise ValueError(f"size={size}: four rooms need at least 5")
    cells = size * size
    goal, out, done = cells - 1, cells, cells + 1  # the two ends are states of their own
    wall = size // 2  # between wall - 1 and wall, both ways
    gates = {-(-size // 3) - 2, -(-2 * (size + 2) // 3) - 1}
    moves = torch.full((cells + 2, 4), out, dtype=torch.int64)
    for y in range(size):
        for x in range(size):
            steps = ((0, 1), (-1, 0), (0, -1), (1, 0))  # up, left, down, right
            for a, (dx, dy) in enumerate(steps):
                nx, ny = x + dx, y + dy
                inside = 0 <= nx < size and 0 <= ny < size
                blocked = (dy != 0 and max(y, ny) == wall and x not in gates) or (
                    dx != 0 and max(x, nx) == wall and y not in gates
                )
                moves[y * size + x, a] = ny * size + nx if inside and not blocked else y * size + x
    moves[0, 1] = moves[0, 2] = out
    moves[done] = done
    if goal_ends:
        moves[goal, 3] = done
    prob, successors = slippery(moves, slip)
    pays = torch.zeros(cells + 2, 4, dtype=torch.float64)
    pays[goal, 3] = reward
    pays[1, 0] = distractor
    states = torch.arange(cells + 2)
    mdp = MDP(prob, pays, start=size + 1, terminal=states >= out, discount=discount, successors=successors)
    drawing, place = _room_drawing(size, wall, gates)
    return Scene(
        mdp, max_steps, ("up", "left", "down", "right"), success=states == (done if goal_ends else goal),
        facts={"cell": states}, drawing=drawing, place=torch.cat([place, torch.full((2, 2), -1)]),
    )  # fmt: skip


def _room_drawing(size: int, wall: int, gates: set[int]) -> tuple[tuple[str, ...], Tensor]:
    rows = []
    for y in reversed(range(size)):
        row = "".join(("G" if x == y == size - 1 else ".") for x in range(size))
        rows.append(row[:wall] + (" " if y in gates else "|") + row[wall:])
        if y == wall:
            line = "".join(" " if x in gates else "-" for x in range(size))
            rows.append(line[:wall] + "+" + line[wall:])
    place = [
        (size - 1 - y + (1 if y < wall else 0), x + (1 if x >= wall else 0)) for y in range(size) for x in range(size)
    ]
    return tuple(rows), torch.tensor(place)


def line_key(
    length: int = 10,
    *,
    reward: float = 10.0,
    key: int = 1,
    slip: float = 0.1,
    discount: float = 0.95,
    max_steps: int = 30,
) -> Scene:
    """LineKey, in cells: fetch the key near the left end, then leave by the right end (EXPADARD, AAMAS 2024).

    Actions are left, right and pick; from the middle. Without the key the right end is a wall and going left in cell 0
    leads out. With it, cell 0 is a wall and going right in the last cell pays ``reward`` and ends the episode. A slip
    takes the other direction; picking never slips. In the last cell with the key, a slip from left to right ends the
    episode without reward, as in the paper's experiments.

    Args:
        length: Cells.
        reward: Of leaving with the key.
        key: The key's cell.
        slip: Chance of going the other way.
        discount: The discount.
        max_steps: Truncates the episode.
    """
    if length < 3 or not 0 <= key < length:
        raise ValueError(f"length={length}, key={key}: at least 3 cells, the key in one of them")
    out, done, states = 2 * length, 2 * length + 1, torch.arange(2 * length + 2)
    moves = states[:, None].repeat(1, 3)
    for holds in (0, 1):
        for x in range(length):
            s = holds * length + x
            moves[s, LEFT] = s - 1 if x else (s if holds else out)
            moves[s, RIGHT] = s + 1 if x < length - 1 else (done if holds else s)
    moves[key, 2] = length + key
    other = moves[:, [1, 0, 2]].clone()
    last = 2 * length - 1
    other[last, LEFT] = out
    other[0, LEFT], other[last, RIGHT] = out, done  # leaving on purpose does not slip
    successors = torch.stack([moves, other], -1)
    prob = torch.tensor([1 - slip, slip], dtype=torch.float64).expand(2 * length + 2, 3, 2)
    pays = torch.zeros(2 * length + 2, 3, dtype=torch.float64)
    pays[last, RIGHT] = reward
    mdp = MDP(prob, pays, start=length // 2, terminal=states >= out, discount=discount, successors=successors)
    letters = ["."] * length
    letters[key], letters[-1] = "k", "G"
    column = torch.where(states < out, states % length, -1)
    return Scene(
        mdp, max_steps, ("left", "right", "pick"), success=states == done,
        facts={"cell": states.clamp_max(last) % length, "key": (states >= length) & (states != out)},
        drawing=("".join(letters),), place=torch.stack([torch.where(column < 0, -1, 0), column], -1),
        captions=tuple("with the key" if s >= length else "without the key" for s in range(2 * length + 2)),
    )  # fmt: skip


FOUR_ROOMS = (
    "#############",
    "#.....#.....#",
    "#.....#.....#",
    "#...........#",
    "#.....#.....#",
    "#.....#.....#",
    "##.####.....#",
    "#.....###.###",
    "#.....#.....#",
    "#.....#.....#",
    "#...........#",
    "#.....#.....#",
    "#############",
)
"""The grid of Sutton, Precup and Singh, "Between MDPs and Semi-MDPs" (1999), figure 2."""


def grid(
    rows: Sequence[str],
    *,
    goals: dict[str, float] | None = None,
    step_reward: float = 0.0,
    slip: float = 0.0,
    discount: float = 0.99,
    max_steps: int | None = None,
) -> Scene:
    """A grid world from a drawing: ``#`` is wall, ``S`` a start (all alike; anywhere that is free, without any).

    Other letters are free cells with a proposition of that name; those in ``goals`` end the episode and pay.

    Args:
        rows: Strings of one length, closed in by walls or not.
        goals: Letter to reward of entering it; ``{"G": 1.0}`` by default.
        step_reward: Of every step.
        slip: Chance that one of the two directions at right angles is taken instead (half each).
        discount: The discount.
        max_steps: Truncates the episode.

    Raises:
        ValueError: The rows differ in length, or there is no free cell.
    """
    goals = {"G": 1.0} if goals is None else goals
    width = len(rows[0]) if rows else 0
    if not width or any(len(row) != width for row in rows):
        raise ValueError("a grid is a list of strings of one length")
    cells = [(i, j) for i, row in enumerate(rows) for j, letter in enumerate(row) if letter != "#"]
    if not cells:
        raise ValueError("the grid has no free cell")
    index = {cell: s for s, cell in enumerate(cells)}
    letters = [rows[i][j] for i, j in cells]
    steps = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
    moves = torch.tensor([[index.get((i + di, j + dj), s) for di, dj in steps] for s, (i, j) in enumerate(cells)])
    aside = torch.stack([moves.roll(1, -1), moves.roll(-1, -1)], -1)
    successors = torch.cat([moves[..., None], aside], -1) if slip else moves[..., None]
    prob = torch.tensor([1 - slip, slip / 2, slip / 2] if slip else [1.0], dtype=torch.float64)
    worth = torch.tensor([goals.get(letter, 0.0) for letter in letters], dtype=torch.float64) + step_reward
    ends = torch.tensor([letter in goals for letter in letters])
    free = torch.tensor([letter == "S" for letter in letters])
    free = free if bool(free.any()) else ~ends
    names = tuple(sorted({letter for letter in letters if letter not in ".S "}))
    mdp = MDP(
        prob.expand(successors.shape), worth[successors], start=free.double() / free.sum(), terminal=ends,
        discount=discount, successors=successors,
    )  # fmt: skip
    return Scene(
        mdp, max_steps, ("up", "right", "down", "left"),
        success=ends & (worth > step_reward) if bool(ends.any()) else None, propositions=names,
        labels=torch.tensor([[letter == name for name in names] for letter in letters]).reshape(len(cells), -1),
        facts={"cell": torch.arange(len(cells))}, drawing=tuple(row.replace("S", ".") for row in rows),
        place=torch.tensor(cells),
    )  # fmt: skip


def four_rooms(*, slip: float = 0.0, discount: float = 0.99, max_steps: int = 200) -> Scene:
    """Four rooms (Sutton, Precup and Singh, 1999): from anywhere to the cell in the lower right room's far corner."""
    rows = list(FOUR_ROOMS)
    rows[-2] = rows[-2][:-2] + "G#"
    return grid(rows, slip=slip, discount=discount, max_steps=max_steps)
