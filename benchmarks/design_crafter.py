"""Auto MC-Reward in Crafter: lava deaths and success by round, causes of death named, seeded faults stopped.

python benchmarks/design_crafter.py [--parts lava causes faults] [--seeds 3] [--steps 250000]

It needs the extra ``crafter``. Designer, critic and analyser are scripted (benchmarks/scripted.py): that measures the
search, and says nothing of language models.

- lava: ``cairn/CrafterDiamond-v0``, from underground with an iron pickaxe to a diamond; each round's agent and the best
  until then on fresh worlds: how many died in lava, how many of all causes, how many got the diamond. Round 0 is the
  task's reward alone. The first program is ours: the signs of steps towards the diamond in view.
- causes: what players of five ways of playing died of. The label is the game's own, by who took the last point of
  health; the analyser reads the last twelve steps as text, without it.
- faults: programs with one seeded fault each, and sound ones: which layer stops them.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from cairn.agents.design import SideBySide
from cairn.benchmarks import scripted
from cairn.benchmarks.design_rounds import rounds_of, rounds_table
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.shaping import Task
from cairn.shaping.language.search import Recorded, Trial, Workshop, auto_mc, record
from cairn.shaping.language.search.roles import analysis_prompt, reviewed
from cairn.shaping.language.search.trajectories import compact, read_analysis

ENV, TASK = "cairn/CrafterDiamond-v0", "collect the diamond and keep out of the lava"
LANES, WORLDS, KEPT = 64, 64, 64
PPO = {"n_steps": 32, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01, "gamma": 0.95}
# A diamond that has been collected is in view no more: that is not far away.
NEAR = scripted.Part("near", -1.0, "where(next_success, 0, next_to_diamond)", change=True)
MEASURES = {"lava": "lava deaths", "deaths": "deaths", "success": "success"}
PARTS = ("lava", "causes", "faults")


def make(lanes: int, worlds: int = WORLDS) -> Any:
    """A batch of the task."""
    return gym.make_vec(ENV, num_envs=lanes, device="cpu", worlds=worlds)


def workshop(steps: int, seed: int, players: int = 128, **given: Any) -> Workshop:
    """Random play recorded, and trainings; the scripted designer's programs need no jail."""
    batch = make(players)
    recorded = record(batch, seed=seed)
    batch.close()
    trials = SideBySide(partial(make, LANES), steps, agent_args=PPO, keep_episodes=KEPT)
    return Workshop(ENV, TASK, recorded, trials, **{"in_process": True, **given})


def lived(trial: Trial | None) -> dict[str, str]:
    """Which share of an agent's fresh episodes ended in lava, in any death, and in success."""
    if trial is None or trial.episodes is None:
        return dict.fromkeys(MEASURES, "")
    kept = trial.episodes
    ends = torch.zeros(len(kept), dtype=torch.bool)
    ends[kept.x.episode[kept.x.terminated]] = True
    lava = torch.zeros(len(kept), dtype=torch.bool)
    lava[kept.x.episode[kept.x.terminated & (kept.x.next_facts["to_lava"] == 0)]] = True
    shares = lava & ~kept.success, ends & ~kept.success, kept.success
    return {name: f"{float(share.float().mean()):.3f}" for name, share in zip(MEASURES, shares)}


def lava(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: seed, round -> lava deaths, deaths and success of the agent on fresh worlds."""
    for seed in range(args.first, args.seeds):
        if cells.done({"seed": seed, "round": args.rounds}):
            continue
        shop = workshop(args.steps, seed, signs=True, gate=0.0, say=lambda text: print(f"  {text}", flush=True))
        alone = shop.trials.train([Task()], seed)[0]
        print(f"  seed {seed}, task alone: {lived(alone)}", flush=True)
        designer = scripted.Designer(seed, mistakes=False, first=(NEAR,))
        found = auto_mc(shop, designer, None, scripted.Analyser(scripted.DEATHS), args.rounds, seed=seed)
        for r, (outcome, trial, kept) in rounds_of(found, alone, args.rounds).items():
            if not cells.done({"seed": seed, "round": r}):
                its = {f"best_{name}": value for name, value in lived(kept).items()}
                steps = trial.steps if trial is not None else 0
                cells.add({"seed": seed, "round": r, "outcome": outcome, "steps": steps, **lived(trial), **its})
    print(rounds_table(cells.rows(), args.rounds, MEASURES))


LABELS = ("", "lava", "zombie", "arrow", "neglect", "neglect", "neglect")
"""Of ``cairn.envs.crafter.upstream.DEATHS``: hunger, thirst and tiredness come together."""


def playing() -> list[tuple[str, dict[str, Any], Callable[[int], torch.Tensor]]]:
    """(way of playing, environment, policy): each gives the actions of n players."""
    grass = {"id": "cairn/Crafter-v0", "area": (32, 32), "observation": "symbols", "max_episode_steps": 600}
    cave = {"id": ENV, "max_episode_steps": 150}
    return [
        ("underground, at random", cave, lambda n: torch.randint(0, 7, (n,))),
        ("underground, on the move", cave, lambda n: torch.randint(1, 6, (n,))),
        ("underground, idle", {**cave, "max_episode_steps": 600}, lambda n: torch.zeros(n, dtype=torch.int64)),
        ("on the grass, idle", grass, lambda n: torch.zeros(n, dtype=torch.int64)),
        ("on the grass, asleep", grass, lambda n: torch.full((n,), 6)),
    ]


def causes(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: way of playing and episode -> what the player died of, and what the analyser said."""
    for way, world, policy in playing():
        if cells.done({"way": way, "episode": -1}):
            continue
        batch: Any = gym.make_vec(**world, num_envs=args.players, device="cpu", worlds=16, facts=("death",))
        seen: Recorded = record(batch, lambda obs, policy=policy: policy(args.players), seed=1)  # type: ignore[misc]
        batch.close()
        death = seen.x.next_facts.pop("death")
        seen.x.facts.pop("death")  # neither the analyser nor the prompt has the label
        shop = Workshop(ENV, TASK, seen, SideBySide(partial(make, 8), 1))
        for e in range(len(seen)):
            label = LABELS[int(death[seen.x.episode == e][-1])]
            if not label or cells.done({"way": way, "episode": e}):
                continue
            answers = scripted.Analyser(scripted.DEATHS).propose(analysis_prompt(shop, [compact(seen.rows(e))]), 1)
            said = read_analysis(answers[0]).causes.get(1, "nothing")
            cells.add({"way": way, "episode": e, "label": label, "said": said})
        cells.add({"way": way, "episode": -1, "label": "", "said": ""})
    rows = [row for row in cells.rows() if row["label"]]
    print(causes_table(rows))


def causes_table(rows: Sequence[dict[str, str]]) -> str:
    """For each cause how often the analyser named it, and for each way of playing."""
    right = [scripted.NAMED[row["label"]] == row["said"] for row in rows]
    lines = ["| | deaths | named rightly |", "|---|---:|---:|"]
    for column in ("label", "way"):
        total, good = Counter(row[column] for row in rows), Counter(r[column] for r, ok in zip(rows, right) if ok)
        lines += [f"| {name} | {n} | {good[name] / n:.0%} |" for name, n in total.items()]
    return "\n".join([*lines, f"| all | {len(rows)} | {sum(right) / max(1, len(rows)):.0%} |"])


def faulty() -> list[tuple[str, str]]:
    """(fault, program): one fault each, on Crafter's facts; fault "none" are sound."""
    near = "1.0 * (to_diamond - where(next_success, 0, next_to_diamond))"
    lost = "where(terminated & ~next_success, -1.0, 0.0)"
    inputs = (
        "to_diamond, next_to_diamond, next_to_lava, next_facing, next_pack, position, next_position, terminated, "
        "next_success, step"
    )

    def written(total: str, **parts: str) -> str:
        lines = [f"    {name} = {value}" for name, value in parts.items()]
        shown = ", ".join(f'"{name}": {name}' for name in parts)
        return "\n".join([f"def reward({inputs}):", *lines, f"    return {total}, {{{shown}}}", ""])

    return [
        ("none", written("0.1 * near", near=near)),
        ("none", written("0.1 * near + lost", near=near, lost=lost)),
        ("none", written("0.1 * near + 0.3 * lava", near=near,
                         lava="where(terminated & (next_to_lava == 0), -1.0, 0.0)")),
        ("an input that is not there", written("near", near=near).replace("step)", "step, diamond_distance)")),
        ("an operation that is not there", written("near", near=f"smooth({near})")),
        ("an index out of bounds", written("stones", stones="1.0 * next_pack[:, 6]")),
        ("one number for the batch", written("near", near=f"sum({near})")),
        ("a loop without end", f"def reward({inputs}):\n    while True:\n        near = 1.0 * step\n    return near\n"),
        ("an import", "import os\n" + written("near", near=near)),
        ("infinite where nothing moves", written("near", near="1.0 / norm(1.0 * (next_position - position), dim=-1)")),
        ("not a number", written("near", near="sqrt(0.0 - 1.0 * step - 1.0)")),
        ("a number that no tile has", written("0.1 * ahead", ahead="where(next_facing == 30, 1.0, 0.0)")),
        ("-1 taken for out of view", written("0.1 * near + 0.1 * seen", near=near,
                                             seen="where(next_to_diamond == -1, -1.0, 0.0)")),
        ("pay for every step", written("alive", alive="0.1 + 0.0 * step")),
        ("a state instead of a change", written("near", near="where(next_to_diamond < 8, 0.5, 0.0)")),
        ("the sign turned", written("3.0 * away", away=f"0.0 - ({near})")),
        ("death pays", written("2.0 * lost", lost=f"0.0 - ({lost})")),
        ("a part that does nothing", written("0.1 * near + idle", near=near, idle="0.0 * step")),
        ("one part dwarfs all", written("0.001 * near + 20.0 * moves", near=f"0.001 * ({near})",
                                        moves="20.0 * norm(1.0 * (next_position - position), dim=-1)")),
        ("prose", "The agent should go to the diamond first."),
    ]  # fmt: skip


def faults(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: fault -> the layer that stopped it."""
    shop = None
    for k, (fault, program) in enumerate(faulty()):
        if cells.done({"number": k}):
            continue
        shop = shop or workshop(args.steps, 0, 256, in_process=False)
        answer = program if fault == "prose" else f"```python\n{program}```"
        seen = reviewed(shop, shop.screen(f"f{k}", answer), scripted.Critic())
        cells.add({"number": k, "fault": fault, "outcome": seen.outcome, "why": " ".join(seen.why.split())[:120]})
    rows = cells.rows()
    for row in rows:
        print(f"  {row['fault']:32} {row['outcome']:10} {row['why']}")
    seeded, sound = ([r for r in rows if (r["fault"] == "none") == is_sound] for is_sound in (False, True))
    print(f"{sum(r['outcome'] != 'new' for r in seeded)} of {len(seeded)} seeded faults are stopped, "
          f"and {sum(r['outcome'] != 'new' for r in sound)} of {len(sound)} sound programs")  # fmt: skip


KEYS = {"lava": ("seed", "round"), "causes": ("way", "episode"), "faults": ("number",)}
RUN = {"lava": lava, "causes": causes, "faults": faults}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing in the tables, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which tables")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the lava table")
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--steps", type=int, default=250_000, help="environment steps of a training")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of a search")
    parser.add_argument("--players", type=int, default=48, help="players of each way of playing")
    parser.add_argument("--out", type=Path, default=RESULTS / "design_search", help="folder of the tables")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    for part in args.parts:
        print(f"\n{part}", flush=True)
        RUN[part](Cells(args.out / f"crafter_{part}.csv", KEYS[part]), args)


if __name__ == "__main__":
    main()
