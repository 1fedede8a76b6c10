"""What a search for reward programs is worth: reflection against none, the gate, the critic, the analyser.

python benchmarks/design_search.py [--parts eureka faults causes lava models] [--seeds 5] [--server URL --model NAME]

Without a server a scripted designer writes (benchmarks/scripted.py), which edits what it is told and nothing else, or,
"blind", makes the same edits at random. That measures the search and says nothing of language models: cells that need
one say "not run here" until --server is given.

- eureka: DoorKey-5x5, score of the best after each round; told or blind, with the rank gate or without.
- feedback: DoorKey-5x5, Text2Reward: score of each round's agent, where the designer heeds the feedback and where it
  makes the same edits at random.
- faults: programs with one seeded fault each, and sound ones: which layer stops them.
- causes: failed episodes of policies whose failing is known: how many of their causes the analyser names.
- lava: Auto MC-Reward on LavaCrossingS9N1: deaths and success on 100 fresh levels, of each round's agent and of the
  best until then, by which the search goes on; round 0 is the task's reward alone. A round whose program was written
  before trains nobody.
- models: what needs a capable model.
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
from cairn.agents.designing import Asked
from cairn.benchmarks import scripted
from cairn.benchmarks.design_rounds import rounds_of, rounds_table
from cairn.benchmarks.solve import SETTINGS
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.shaping import Task
from cairn.shaping.language.search import Recorded, Trial, Workshop, auto_mc, eureka, record, text2reward
from cairn.shaping.language.search.roles import analysis_prompt, reviewed
from cairn.shaping.language.search.trajectories import compact, read_analysis

DOOR, LAVA = "cairn/MiniGrid-DoorKey-5x5-v0", "cairn/MiniGrid-LavaCrossingS9N1-v0"
TASK = "fetch the key, open the door with it, and go to the green goal"
PPO = {"n_steps": 64, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01}
FAST = {name: value for name, value in SETTINGS.items() if name != "num_envs"}
PARTS = ("eureka", "feedback", "faults", "causes", "lava", "models")
MEASURES = {"deaths": "deaths", "success": "success"}
FACTS = {DOOR: {"facts": ("doors",)}}
MODELS = (
    ("L1", "above the hand reward on 83 % of 12 tasks"),
    ("L3", "a model's critic and analyser on Crafter"),
)


def make(env: str, lanes: int) -> Any:
    """A batch on the CPU."""
    return gym.make_vec(env, num_envs=lanes, device="cpu", **FACTS.get(env, {}))  # type: ignore[arg-type]


def workshop(env: str, task: str, steps: int, seed: int, **given: Any) -> Workshop:
    """Random play recorded, and trainings of ``steps`` steps; the scripted designer's programs need no jail."""
    batch = make(env, 256)
    recorded = record(batch, seed=seed)
    batch.close()
    lanes, settings = (SETTINGS["num_envs"], FAST) if env == LAVA else (32, PPO)
    trials = SideBySide(partial(make, env, lanes), steps, agent_args=settings, keep_episodes=100)
    return Workshop(env, task, recorded, trials, **{"in_process": True, **given})


def reflection(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: designer, gate, seed -> score of the best after each round, trainings and steps."""
    for seed in range(args.seeds):
        for designer, gate in (("told", 0.75), ("told", 0.0), ("blind", 0.75), ("blind", 0.0)):
            key: dict[str, object] = {"designer": designer, "gate": gate, "seed": seed}
            if cells.done(key):
                continue
            shop = workshop(DOOR, TASK, args.steps, seed, gate=gate)
            blind = designer == "blind"
            found = eureka(shop, scripted.Designer(seed, blind=blind), args.samples, args.rounds, reflect=not blind,
                           seed=seed)  # fmt: skip
            trained = [c for c in found.candidates if c.trial is not None]
            scores = " ".join("none" if s == float("-inf") else f"{s:.2f}" for s in found.scores)
            rejected = sum(c.outcome == "gate" for c in found.candidates)
            cells.add({**key, "scores": scores, "trainings": len(trained), "rejected": rejected,
                       "steps": sum(c.trial.steps for c in trained if c.trial)})  # fmt: skip
            print(f"  {designer}, gate {gate}, seed {seed}: {scores} ({len(trained)} trainings)", flush=True)
    lines = ["| designer | gate | score of the best, last round (IQM) | 95 % | trainings |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in cells.rows():
        groups.setdefault((row["designer"], row["gate"]), []).append(row)
    for (who, how), rows in groups.items():
        last = [0.0 if (s := r["scores"].split()[-1]) == "none" else float(s) for r in rows]
        low, high = interval(last)
        trainings = sum(int(r["trainings"]) for r in rows) / len(rows)
        lines.append(f"| {who} | {how} | {iqm(last):.2f} | {low:.2f} to {high:.2f} | {trainings:.1f} |")
    print("\n".join(lines))


def feedback(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: designer, seed, round -> score of the round's agent, and of the best until then.

    A search that has nothing left to ask for ends, and its last agent stands for the rounds that it does not need.
    """
    for seed in range(args.seeds):
        for designer in ("told", "blind"):
            if cells.done({"designer": designer, "seed": seed, "round": args.rounds}):
                continue
            shop = workshop(DOOR, TASK, args.steps, seed, gate=0.0)
            found = text2reward(shop, scripted.Designer(seed, blind=designer == "blind"), args.rounds, seed=seed)
            trained, score = {int(c.name[1 : c.name.index("a")]): c for c in found.candidates if c.trial}, 0.0
            for r in range(1, args.rounds + 1):
                score = trained[r].score if r in trained and trained[r].outcome == "trained" else score
                best = max([0.0, *(c.score for k, c in trained.items() if k <= r)])
                row = {"designer": designer, "seed": seed, "round": r}
                if not cells.done(row):
                    cells.add({**row, "trained": int(r in trained), "score": f"{score:.3f}", "best": f"{best:.3f}"})
            print(f"  {designer}, seed {seed}: {[c.score for c in trained.values()]}", flush=True)
    print(feedback_table(cells.rows(), args.rounds))


def feedback_table(rows: Sequence[dict[str, str]], rounds: int) -> str:
    """A line for each designer, a column for each round: IQM over seeds of its agent's score, with the interval."""
    heads = "".join(f" round {r} |" for r in range(1, rounds + 1))
    lines = [f"| designer | seeds |{heads}", "|---|---:|" + "---:|" * rounds]
    for who in dict.fromkeys(row["designer"] for row in rows):
        shown = []
        for r in range(1, rounds + 1):
            scores = [float(row["score"]) for row in rows if (row["designer"], row["round"]) == (who, str(r))]
            low, high = interval(scores)
            shown.append(f"{iqm(scores):.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {who} | {len(scores)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def faulty() -> list[tuple[str, str]]:
    """(fault, program): one fault each, on DoorKey's facts; fault "none" are sound."""
    key = "where(next_carrying[:, 0] == 5, 1.0, 0.0) - where(carrying[:, 0] == 5, 1.0, 0.0)"
    door = "where(any(next_doors == 0, dim=-1), 1.0, 0.0) - where(any(doors == 0, dim=-1), 1.0, 0.0)"
    inputs = "carrying, next_carrying, doors, next_doors, position, next_position, step"

    def written(total: str, **parts: str) -> str:
        lines = [f"    {name} = {value}" for name, value in parts.items()]
        shown = ", ".join(f'"{name}": {name}' for name in parts)
        return "\n".join([f"def reward({inputs}):", *lines, f"    return {total}, {{{shown}}}", ""])

    return [
        ("none", written("0.1 * key + 0.3 * door", key=key, door=door)),
        ("none", written("0.2 * key", key=key)),
        ("none", written("0.3 * door", door=door)),
        ("an input that is not there", written("key", key=key).replace("step)", "step, key_distance)")),
        ("an operation that is not there", written("key", key=f"smooth({key})")),
        ("an index out of bounds", written("key", key=key.replace("[:, 0]", "[:, 2]"))),
        ("one number for the batch", written("key", key=f"sum({key})")),
        ("a loop without end", f"def reward({inputs}):\n    while True:\n        key = 1.0 * step\n    return key\n"),
        ("an import", "import os\n" + written("key", key=key)),
        ("infinite where nothing moves", written("key", key="1.0 / norm(next_position - position, dim=-1)")),
        ("not a number", written("key", key="sqrt(0.0 - 1.0 * step - 1.0)")),
        ("another object's number", written("0.1 * key", key=key.replace("5", "6"))),
        ("closed taken for open", written("0.3 * door", door=door.replace("== 0", "== 4"))),
        ("pay for every step", written("alive", alive="0.1 + 0.0 * step")),
        ("a state instead of a change", written("key", key="where(next_carrying[:, 0] == 5, 0.5, 0.0)")),
        ("the sign turned", written("0.0 - 3.0 * door", door=door, turned=f"0.0 - ({door})")),
        ("a part that does nothing", written("0.1 * key + idle", key=key, idle="0.0 * step")),
        ("one part dwarfs all", written("0.001 * key + 20.0 * away", key=f"0.001 * ({key})",
                                        away="20.0 * norm(next_position - position, dim=-1)")),
        ("prose", "The agent should fetch the key first."),
    ]  # fmt: skip


def faults(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: fault -> the layer that stopped it."""
    shop = workshop(DOOR, TASK, args.steps, 0, in_process=False)
    for k, (fault, program) in enumerate(faulty()):
        key = {"number": k}
        if not cells.done(key):
            answer = program if fault == "prose" else f"```python\n{program}```"
            seen = reviewed(shop, shop.screen(f"f{k}", answer), _critic(args))
            cells.add({**key, "fault": fault, "outcome": seen.outcome, "why": " ".join(seen.why.split())[:120]})
    rows = cells.rows()
    for row in rows:
        print(f"  {row['fault']:32} {row['outcome']:10} {row['why']}")
    seeded = [r for r in rows if r["fault"] != "none"]
    sound = [r for r in rows if r["fault"] == "none"]
    print(f"{sum(r['outcome'] != 'new' for r in seeded)} of {len(seeded)} seeded faults are stopped, "
          f"and {sum(r['outcome'] != 'new' for r in sound)} of {len(sound)} sound programs")  # fmt: skip


def failing() -> list[tuple[str, str, Callable[[int, Any], torch.Tensor]]]:
    """(cause, environment, policy): policies that fail in one way; each gives the actions of step t."""
    turn = torch.tensor([0])
    circle = torch.tensor([2, 1])
    return [
        ("it ended without success (stepped into lava)", LAVA, lambda t, n: torch.full((n,), 2)),
        ("it hardly moved", "cairn/MiniGrid-Empty-8x8-v0", lambda t, n: turn.expand(n)),
        ("it went round in circles", "cairn/MiniGrid-Empty-8x8-v0", lambda t, n: circle[t % 2].expand(n)),
        ("it ran out of time on the way", "cairn/MiniGrid-FourRooms-v0", lambda t, n: torch.randint(0, 3, (n,))),
    ]


def causes(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: cause and episode -> what the analyser said."""
    for cause, env, policy in failing():
        batch, clock = make(env, 16), iter(range(10**9))

        def act(obs: Any, policy: Any = policy, clock: Any = clock) -> torch.Tensor:
            return policy(next(clock), 16)  # type: ignore[no-any-return]

        seen: Recorded = record(batch, act, seed=1)
        batch.close()
        ended = torch.zeros(len(seen), dtype=torch.bool)
        ended[seen.x.episode[seen.x.terminated]] = True
        # Who walks ahead and meets no lava stands at the wall: that is not the cause on the label.
        failed = (~seen.success & (ended if env == LAVA else ~ended)).nonzero()[:, 0].tolist()
        shop = Workshop(env, "go to the green goal", seen, SideBySide(partial(make, env, 8), 1))
        for e in failed:
            key = {"cause": cause, "episode": e}
            if not cells.done(key):
                prompt = analysis_prompt(shop, [compact(seen.rows(e))])
                answers = _analyser(args).propose(prompt, 1)
                said = read_analysis(answers[0] if answers else "").causes.get(1, "nothing")
                cells.add({**key, "said": said})
    rows = cells.rows()
    right = Counter(r["cause"] for r in rows if r["said"] == r["cause"])
    for cause, total in Counter(r["cause"] for r in rows).items():
        print(f"  {cause}: {right[cause]} of {total}")
    print(f"named rightly: {sum(right.values())} of {len(rows)}")


def lava(cells: Cells, args: argparse.Namespace) -> None:
    """Rows: seed, round -> deaths and success of the agent on fresh levels."""
    for seed in range(args.seeds):
        if cells.done({"seed": seed, "round": args.rounds}):
            continue
        task = "go to the green goal and keep out of the lava"
        shop = workshop(LAVA, task, args.lava_steps, seed, signs=True, gate=0.0)
        found = auto_mc(shop, scripted.Designer(seed, mistakes=False), None, scripted.Analyser(), args.rounds,
                        seed=seed)  # fmt: skip
        alone = shop.trials.train([Task()], seed)[0]
        for r, (outcome, trial, kept) in rounds_of(found, alone, args.rounds).items():
            if not cells.done({"seed": seed, "round": r}):
                its = {f"best_{name}": value for name, value in lived(kept).items() if name != "steps"}
                cells.add({"seed": seed, "round": r, "outcome": outcome, **lived(trial), **its})
    print(rounds_table(cells.rows(), args.rounds, MEASURES))


def lived(trial: Trial | None) -> dict[str, object]:
    """Which share of an agent's fresh episodes ended in lava, and in success."""
    if trial is None or trial.episodes is None:
        return {"deaths": "", "success": "", "steps": 0}
    kept = trial.episodes
    ends = torch.zeros(len(kept), dtype=torch.bool)
    ends[kept.x.episode[kept.x.terminated]] = True
    deaths, success = (ends & ~kept.success).float().mean(), kept.success.float().mean()
    return {"deaths": f"{float(deaths):.3f}", "success": f"{float(success):.3f}", "steps": trial.steps}


def models(cells: Cells, args: argparse.Namespace) -> None:
    """What a scripted designer cannot show."""
    for row, what in MODELS:
        print(f"  {row}: {what}: not run here (needs a capable model: cairn design ... --server URL --model NAME)")


def _client(args: argparse.Namespace, role: str) -> Asked:
    from cairn.shaping.language import Client

    return Asked(Client(args.server, args.model), f"reward-design/{role}@1", 0.0)


def _critic(args: argparse.Namespace) -> Any:
    return scripted.Critic() if args.server is None else _client(args, "critic")


def _analyser(args: argparse.Namespace) -> Any:
    return scripted.Analyser() if args.server is None else _client(args, "analyser")


KEYS = {"eureka": ("designer", "gate", "seed"), "feedback": ("designer", "seed", "round"),
        "faults": ("number",), "causes": ("cause", "episode"),
        "lava": ("seed", "round"), "models": ("row",)}  # fmt: skip
RUN = {"eureka": reflection, "feedback": feedback, "faults": faults, "causes": causes, "lava": lava, "models": models}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing in the tables, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which tables")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of a cell")
    parser.add_argument("--steps", type=int, default=30_000, help="environment steps of a training")
    parser.add_argument("--lava-steps", type=int, default=400_000, help="of a training in lava")
    parser.add_argument("--samples", type=int, default=4, help="programs a round")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of a search")
    parser.add_argument("--server", help="an OpenAI-compatible server for critic and analyser")
    parser.add_argument("--model", default="", help="its name for the model")
    parser.add_argument("--out", type=Path, default=RESULTS / "design_search", help="folder of the tables")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    who = "scripted" if args.server is None else args.model
    for part in args.parts:
        print(f"\n{part} ({who})", flush=True)
        RUN[part](Cells(args.out / f"{part}-{Path(who).name}.csv", KEYS[part]), args)


if __name__ == "__main__":
    main()
