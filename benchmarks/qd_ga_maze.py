"""A deceptive maze: novelty among genomes of seeds, beside rewards followed by GA, ES, DQN and PPO.

``cairn/DeceptiveMaze-v0`` pays each step towards the goal in its upper left corner as the crow flies: an episode's
return is how much nearer its end is than its start, and the straight way leads into dead ends. A run has solved the
maze when an episode, of whatever policy it tried, ends within 50 units of the goal; it stops then. GA, GA-NS and the
strategies evolve the same small networks, and all have as many evaluations (episodes of 500 moves). DQN chooses among
five wheel speeds and PPO sets the wheels; they learn from each step's reward, and get the share of those moves that
``--learner-moves`` says: more than GA-NS needs in the median. Settings were chosen on seeds 0 and 1, and seeds begin
at 10. Such et al., "Deep Neuroevolution" (2017), is the claim's source.

With ``--sees view`` or ``--sees picture`` the evolved networks are convolutions on pictures from above, of the 200
units about the robot (``cairn/DeceptiveMazeView-v0``) or of the whole maze (``cairn/DeceptiveMazePixels-v0``), four
moves a step: the same comparison, among the evolved alone.

Bytes are those of the genomes of the last generation: four for each seed of a code, beside four for each weight.

    cairn bench qd_ga_maze                                  # 10 seeds; goes on where it was stopped
    cairn bench qd_ga_maze --sees view --seeds 3            # convolutions on pictures: GA-NS, GA, ES
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn import agents
from cairn.envs.areas.maze import AREAS, SIZE, START, STEPS, HardMazeBatch
from cairn.qd import CNN, MLP, Evaluator, Policy, Problem, Search

EVOLVED = ("ga-ns", "ga", "es", "ns-es", "nsr-es", "nsra-es")
METHODS = ("ga-ns", "ga", "es", "ns-es", "nsra-es", "dqn", "ppo")
PICTURED = ("ga-ns", "ga", "es")
WHEELS = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, -1.0), (-1.0, 1.0))
LANES = {"dqn": 64, "ppo": 256}
FIRST_SEED = 10
# The networks have 72 weights of deviation 1, and steps are as large as fits them: the published ones are for millions.
GENETIC = {"population": 250, "parents": 50, "sigma": 0.3}
NOVEL = {"neighbours": 15, "archived": 0.02}
STRATEGY = {"population": 250, "sigma": 0.3, "rate": 0.1}
SMALLER = {"sigma": 0.1}  # for convolutions, which have 20 times as many weights


class Watched(HardMazeBatch):
    """The deceptive maze for learners: wheel speeds to choose among, and a note of the first episode at the goal."""

    def __init__(self, num_envs: int, choices: bool = False, **kwargs: Any) -> None:
        super().__init__(num_envs, reward="progress", **kwargs)
        self.wheels = torch.tensor(WHEELS)
        self.solved_at: int | None = None
        self.lived, self.best = 0, -1.0
        self.choices = choices
        if choices:
            self.single_action_space = spaces.Discrete(len(WHEELS))
            self.action_space = spaces.MultiDiscrete([len(WHEELS)] * num_envs)

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return super()._move(self.wheels[actions.reshape(-1)] if self.choices else actions)

    def step(self, actions: Any) -> Any:
        """As the maze's; counts moves, and notes when an episode ends at the goal."""
        out = super().step(actions)
        self.lived += self.num_envs
        ended, facts = out[4]["_final_obs"], out[4]["final_facts"]
        if bool(ended.any()):
            self.best = max(self.best, float(self.returns(facts["descriptor"][ended]).max()))
            if self.solved_at is None and bool((facts["area"][ended] == 0).any()):
                self.solved_at = self.lived
        return out


class _UntilSolved(BaseCallback):
    """Ends a training whose maze is solved."""

    def __init__(self, maze: Watched) -> None:
        super().__init__()
        self.maze = maze

    def _on_step(self) -> bool:
        return self.maze.solved_at is None


def evolve(method: str, seed: int, moves: int, sees: str, options: dict[str, Any]) -> dict[str, object]:
    """One search, until it is solved or the moves are spent."""
    seen: dict[str, Any] = {} if sees == "sensors" else {"sees": sees, "ticks": 4, "pixels": 32}

    def make(lanes: int) -> HardMazeBatch:
        return HardMazeBatch(lanes, reward="progress", **seen)

    one = make(1)
    world = (one.single_observation_space, one.single_action_space)
    policy: Policy = MLP(*world, bias="unit") if sees == "sensors" else CNN(*world)
    evaluator = Evaluator(make, policy, seed=seed, lanes=250)
    low, high = one.descriptor_bounds
    search = Search(method, Problem(policy.size, low, high, seed=seed), options, areas=2)
    solved: int | None = None
    while solved is None and search.evaluations * STEPS < moves:
        found = evaluator(search.ask())
        there = (found.valid & (found.area == 0)).nonzero()
        if len(there):
            solved = (search.evaluations + int(there[0]) + 1) * STEPS
        search.tell(found)
        show(method, seed, search.evaluations * STEPS, moves)
    code = 0.0
    if method.startswith("ga"):
        codes = search._asking.gi_frame.f_locals["codes"]  # the search's own, which it shows to nobody else
        code = 4 * sum(map(len, codes)) / len(codes)
    scores = search.grid.scores()
    lived = search.evaluations * STEPS
    return {"solved": solved, "best": scores["best"], "coverage": scores["coverage"], "lived": lived, "code": code,
            "weights": 4 * policy.size}  # fmt: skip


def learn(method: str, seed: int, moves: int) -> dict[str, object]:
    """One training by DQN or PPO, until it is solved or the moves are spent."""
    maze = Watched(LANES[method], choices=method == "dqn")
    made = agents.DQN if method == "dqn" else agents.PPO
    kwargs: dict[str, Any] = {"seed": seed, "device": "cpu", "gamma": 0.999}
    if method == "ppo":
        kwargs |= {"ent_coef": 0.01}
    else:
        kwargs |= {"exploration_fraction": 0.5, "exploration_final_eps": 0.05}
    show(method, seed, 0, moves)
    made("MlpPolicy", maze, **kwargs).learn(moves, callback=_UntilSolved(maze))
    return {"solved": maze.solved_at, "best": maze.best, "coverage": 0.0, "lived": maze.lived, "code": 0.0,
            "weights": 0}  # fmt: skip


def show(method: str, seed: int, done: int, moves: int) -> None:
    """A live line."""
    print(f"\r{method} seed {seed}: {done:,} of {moves:,} moves   ", end="", file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, str]]) -> str:
    """How many seeds solved it, how many evaluations that took, and the bytes."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["sees"], row["method"], row["moves"]), []).append(row)
    lines = ["| sees | method | episodes | seeds | solved | episodes until solved: least, median, most | nearest end "
             "to the goal, units: IQM | cells reached | bytes of a genome | of its weights |",
             "|" + "---|" * 10]  # fmt: skip
    for (sees, method, moves), group in groups.items():
        solved = sorted(int(row["solved"]) // STEPS for row in group if int(row["solved"]) >= 0)
        near = [math.dist(START, AREAS[0][:2]) - SIZE * float(row["best"]) for row in group]
        low, high = tables.interval(near)
        codes, cells = [float(row["code_bytes"]) for row in group], [float(row["coverage"]) for row in group]
        when = f"{solved[0]:,}, {median(solved):,.0f}, {solved[-1]:,}" if solved else ""
        shown = [sees, method, f"{int(moves) // STEPS:,}", str(len(group)), str(len(solved)), when,
                 f"{tables.iqm(near):.0f} [{low:.0f}, {high:.0f}]", f"{tables.iqm(cells):.0%}" if max(cells) else "",
                 f"{sum(codes) / len(codes):.0f}" if max(codes) else "",
                 group[0]["weight_bytes"] if max(codes) else ""]  # fmt: skip
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(prog="cairn bench qd_ga_maze", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--methods", nargs="+", choices=[*EVOLVED, *METHODS[-2:]], default=None, help="all, or those for pictures"
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=float, default=2.5e4, help="of the evolved, for each seed")
    parser.add_argument("--learner-moves", type=float, default=4e6, help="of DQN and PPO, for each seed")
    parser.add_argument("--sees", choices=("sensors", "view", "picture"), default="sensors")
    parser.add_argument("--sigma", type=float, default=None, help="of mutations and of the strategies' noise")
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "qd_ga_maze")
    args = parser.parse_args(argv)
    methods = args.methods or (METHODS if args.sees == "sensors" else PICTURED)
    if args.sees != "sensors" and set(methods) - set(EVOLVED):
        parser.error("DQN and PPO are compared on the sensors alone")
    torch.set_num_threads(1)
    print(", ".join(f"{k} {v}" for k, v in tables.machine().items()))
    key = ("sees", "method", "moves", "sigma", "seed")
    cells = tables.Cells(args.out / "cells.csv", key)
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for method in methods:
            evolved = method in EVOLVED
            options: dict[str, Any] = dict(STRATEGY if method.endswith("es") else GENETIC) if evolved else {}
            options |= NOVEL if method == "ga-ns" else {}
            options |= SMALLER if evolved and args.sees != "sensors" else {}
            options |= {"sigma": args.sigma} if evolved and args.sigma else {}
            moves = int(args.evaluations) * STEPS if evolved else int(args.learner_moves)
            name = dict(zip(key, (args.sees, method, moves, options.get("sigma", 0.0), seed)))
            if cells.done(name):
                continue
            began = time.process_time()
            got = evolve(method, seed, moves, args.sees, options) if evolved else learn(method, seed, moves)
            cells.add({
                **name, "solved": -1 if got["solved"] is None else got["solved"],
                "best": round(float(str(got["best"])), 4), "coverage": round(float(str(got["coverage"])), 4),
                "lived": got["lived"], "code_bytes": round(float(str(got["code"])), 1), "weight_bytes": got["weights"],
                "cpu_seconds": round(time.process_time() - began, 1),
            })  # fmt: skip
    print(file=sys.stderr)
    text = table(cells.rows())
    (args.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
