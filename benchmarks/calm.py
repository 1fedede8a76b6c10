"""CALM: how good verdicts on transitions are (F1), and what an agent makes of them online, by their accuracy.

    python benchmarks/calm.py --f1                                                # the oracle at each accuracy
    python benchmarks/calm.py --f1 --url http://127.0.0.1:8000/v1 --model NAME    # a real model
    python benchmarks/calm.py --solve                                             # KeyCorridorS3R3; resumable

Annotated transitions: every event that random walks in KeyCorridorS3R3 meet (a key, a locked door, a target), by the
facts: which of the three subgoals it reaches. Verdicts are asked for each pair of an event and a subgoal; one that
is refused or cannot be read counts as "no". PPO and what counts as solved: benchmarks/dials.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from cairn.benchmarks.dials import ACCURACIES, BUDGET, KEY, LEVELS, TASK, cell, model_for, report, solve_cell
from cairn.benchmarks.oni import worth
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.shaping import CALM, Stretch, Task, World
from cairn.shaping.language import Client, Giver, GridCaptions, Oracle, Question
from cairn.shaping.language.calm import f1, verdict

GOALS = ("Pick up a key.", "Unlock the locked door.", "Pick up the ball that the task names.")


def reaches(goal: str, caption: str) -> bool:
    """Whether an event reaches a subgoal: the annotation."""
    return worth(caption) == 2 + GOALS.index(goal)


def judge(question: Question) -> Any:
    """The right verdict."""
    text = question.messages[-1]["content"]
    goal, rest = text.split("this subgoal: ")[1].split("\nThe event: ")
    return {"reached": "yes" if reaches(goal, rest.split("\n")[0]) else "no"}


def others(question: Question, value: Any) -> list[Any]:
    """The other verdict."""
    return [{"reached": "no" if value["reached"] == "yes" else "yes"}]


def transitions(lanes: int = 256, steps: int = 400) -> list[str]:
    """Captions of all events that random walks meet, and for each level the three that matter."""
    envs: Any = gym.make_vec(TASK, num_envs=lanes, device="cpu")
    obs, info = envs.reset(seed=0)
    captions = GridCaptions()
    captions.bind(World(envs.single_observation_space, envs.single_action_space))
    generator, texts = torch.Generator().manual_seed(0), dict[str, None]()
    for _ in range(steps):
        before = {k: v.clone() for k, v in info["facts"].items()}
        actions = torch.randint(0, 6, (lanes,), generator=generator)
        obs, reward, terminated, truncated, info = envs.step(actions)
        keep = ~(terminated | truncated)
        x = Stretch.make(
            obs=obs, next_obs=obs, reward=reward, terminated=terminated, facts=before, next_facts=info["facts"]
        )[keep]
        codes = captions.codes(x)
        for i in codes.nonzero()[:, 0].tolist():
            texts.setdefault(captions.text(int(codes[i]), x[i : i + 1]))
    # Random walks seldom unlock anything or take the target.
    for mission in dict.fromkeys(envs.missions()):
        color = mission.split()[3]
        for event in (f"You unlock and open a {color} door with your key. You carry a {color} key.",
                      f"You pick up a {color} ball. You carry a {color} ball."):  # fmt: skip
            texts.setdefault(f"{event} The task: {mission}.")
    return list(texts)


def verdicts(args: argparse.Namespace) -> None:
    """F1 of each giver."""
    captions = transitions()
    pairs = [(goal, caption) for goal in GOALS for caption in captions]
    right = [reaches(*pair) for pair in pairs]
    givers: dict[str, Giver] = {f"oracle {a:g}": Oracle(judge, others, a) for a in sorted(args.accuracies)}
    if args.url:
        asked = Client(args.url, args.model, cache=args.cache)
        asked.check()
        givers = {args.model: asked}
    print(f"{len(captions)} captions, {len(pairs)} pairs, {sum(right)} of them reach their subgoal")
    cells = Cells(args.out / "f1.csv", ["giver", "pairs"])
    for name, giver in givers.items():
        if cells.done({"giver": name, "pairs": len(pairs)}):
            continue
        said: list[bool | None] = []
        for goal, caption in pairs:
            answer = giver.ask(verdict(goal, caption))
            said.append(answer.value["reached"] == "yes" if answer.ok else None)
        score = f1(said, right)
        none = sum(s is None for s in said)
        told = {k: round(v, 4) for k, v in score.items()}
        cells.add({"giver": name, "pairs": len(pairs), "reached": sum(right), **told, "no_verdict": none})
    for row in cells.rows():
        print(", ".join(f"{k} {v}" for k, v in row.items()))


def solve(args: argparse.Namespace) -> None:
    """Run the cells that are missing, the first seed of all first; then the table."""
    torch.set_num_threads(1)
    cells = Cells(args.out / "solve.csv", KEY)
    for seed in range(args.seeds):
        for accuracy in (None, *sorted(args.accuracies, reverse=True)):
            name = "none" if accuracy is None else f"calm {accuracy:g}"
            if args.only and name not in args.only or cells.done(cell(name, seed, args.budget)):
                continue
            reward: Any = Task()
            if accuracy is not None:
                reward = Task() + CALM(GOALS, Oracle(judge, others, accuracy, seed), schedule="barrier", every=1)
            trial = gym.make_vec(TASK, num_envs=LEVELS, device="cpu")
            cells.add(solve_cell(name, model_for(reward, seed), trial, seed, args.budget))
    report(cells, args.budget, f"CALM on {TASK}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--f1", action="store_true")
    parser.add_argument("--solve", action="store_true")
    parser.add_argument("--accuracies", type=float, nargs="*", default=ACCURACIES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--only", nargs="*", help="names of cells")
    parser.add_argument("--out", type=Path, default=RESULTS / "calm")
    parser.add_argument("--url")
    parser.add_argument("--model", default="")
    parser.add_argument("--cache", default=None)
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    if args.f1:
        verdicts(args)
    if args.solve:
        solve(args)


if __name__ == "__main__":
    main()
