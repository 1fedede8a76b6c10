"""Text2Reward's new behaviours of Hopper and Ant, judged by predicates, and Fetch beside the expert's reward.

    python benchmarks/behaviours.py --server http://127.0.0.1:8000/v1 --model NAME [--only hopper-front-flip ...]
    python benchmarks/behaviours.py --recordings     # completions that were recorded, see behaviours_recorded.py
    python benchmarks/behaviours.py        # without either: what would be run, each cell "not run here"

Xie et al., "Text2Reward: Reward Shaping with Language Models for Reinforcement Learning" (2024), section 4, has people
judge videos of six behaviours, over 94 % of them right; here a predicate on the states of each fresh episode stands for
the judge. The model is shown the typed world (positions and velocities of joints and bodies, what is in contact) and
the sentence, never the environment's own reward, and after each training what was found, what fresh episodes of the
agent looked like, and how many of them the predicate passed. Agents are judged by their likeliest action; every
behaviour has the same PPO, and steps of its own. With --seeds 3 each program is trained on with three seeds, and is
over 94 % where every one of its agents is, since one agent may owe it to luck; the model is told what each came to, and
what the worst of them did. A search that was killed goes on from its folder; with --more, one that is in the table goes
on to more rounds, or to agents of other seeds on its best program. Any OpenAI-compatible server will do (extra
"language"); programs run in the jail.

FetchReach is judged by its own word for success, and "expert" is an agent trained as long on its own dense reward.
gymnasium-robotics 1.4.2 makes it with MuJoCo before 4 alone, so that it wants a Python environment of its own:

    pip install "mujoco==3.3.6" "gymnasium-robotics==1.4.2" "httpx>=0.27"      # beside Cairn
    python benchmarks/behaviours.py --recordings --only fetch-reach
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import gymnasium as gym
import torch

from cairn.agents.design import SideBySide
from cairn.agents.designing import Asked
from cairn.benchmarks.behaviours_recorded import Recordings, Unrecorded
from cairn.benchmarks.behaviours_shown import DOCS, FALLS, qpos, watched
from cairn.benchmarks.standin import Standin
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs import BatchEnv
from cairn.shaping import Stretch, Task
from cairn.shaping.language import LanguageError
from cairn.shaping.language.search import Candidate, Recorded, Trial, Workshop, record, text2reward
from cairn.shaping.language.search.prompts import VERSION
from cairn.shaping.language.search.workshop import NobodyError

GOAL = 0.94
KEY = ("behaviour", "model", "seed", "seeds", "steps", "limit")
SHOWN = ("best", "passed", "again", "expert")
RECORDINGS = RESULTS / "behaviours" / "recordings"
PPO = {"n_steps": 64, "batch_size": 256, "n_epochs": 10, "learning_rate": 3e-4, "ent_coef": 0.0}
LYING = {"terminate_when_unhealthy": False}


class Behaviour(NamedTuple):
    """What an agent is to do, and who says that it does."""

    env: str
    args: dict[str, Any]
    """Hopper's and Ant's; of Fetch the variant's suffix is in its name."""
    task: str
    shown: Callable[[Stretch], bool]
    """From the transitions of one episode ``[L]``."""
    steps: int
    """Of each training, where ``--steps`` does not say it."""
    limit: int
    """Steps of an episode, where ``--limit`` does not say it; of Fetch they are the environment's own."""
    seeds: int = 1
    """Agents trained on each program, where ``--seeds`` does not say it."""

    @property
    def docs(self) -> dict[str, str]:
        """What the inputs mean in this environment."""
        falls = FALLS.get(self.env) if self.args != LYING else "never: an episode goes on after a fall"
        told = {name: text.replace("LIMIT", str(self.limit)) for name, text in DOCS[self.env].items()}
        return told | ({"terminated": falls} if falls else {})


# ---- predicates: each looks at the states of one episode -------------------------------------------------


def forward(x: Stretch, metres: float) -> bool:
    """It came so far along x, and did not fall."""
    where = qpos(x)[:, 0]
    return float(where[-1] - where[0]) >= metres and not bool(x.terminated.any())


def flip(x: Stretch, way: float) -> bool:
    """After a whole turn of the torso, ``way`` 1 forwards and -1 backwards, it stood on its foot again."""
    state = qpos(x)[1:]
    turned = way * state[:, 2]
    upright = (turned - (turned / math.tau).round() * math.tau).abs() < 0.5
    stands = upright & (state[:, 1] > 0.7) & x.fact("feet", of_next=True)[:, 0].bool()
    return bool((stands & (turned > math.tau - 0.5)).any())


def waves(x: Stretch, leg: int = 0) -> bool:
    """In the last 200 steps one foot is in the air most of the time, its hip swings to and fro, the torso stands."""
    last = x[-200:]
    hip, aloft = qpos(last)[:, 7 + 2 * leg], ~last.fact("feet", of_next=True)[:, leg].bool()
    away = hip - hip.mean()
    side = torch.sign(away[away.abs() > 0.15])
    swings = int((side[1:] != side[:-1]).sum())
    stands = bool((qpos(last)[:, 2] > 0.3).all()) and not bool(x.terminated.any())
    return stands and len(last.t) == 200 and float(aloft.float().mean()) > 0.8 and swings >= 4


def lies(x: Stretch) -> bool:
    """In the last 50 steps the torso is still, and as low as its body lets it: 0.38 m, at the limit of the ankles."""
    last = qpos(x[-50:])[:, :3]
    still = float((last[1:] - last[:-1]).norm(dim=1).max()) < 0.02
    return len(x.t) >= 50 and bool((last[:, 2] < 0.4).all()) and still


def reaches(x: Stretch) -> bool:
    """At the end the gripper is at the target."""
    return bool(x.fact("success", of_next=True)[-1])


BEHAVIOURS = {
    "hopper-forward": Behaviour(
        "Hopper", {}, "hop forward without falling", partial(forward, metres=4.0), 600_000, 1000
    ),
    "hopper-front-flip": Behaviour(
        "Hopper", LYING, "do a front flip and land on the foot", partial(flip, way=1.0), 600_000, 1000
    ),
    "hopper-back-flip": Behaviour(
        "Hopper", LYING, "do a back flip and land on the foot", partial(flip, way=-1.0), 1_000_000, 250, 3
    ),
    "ant-forward": Behaviour(
        "Ant", {}, "walk forward along x without falling", partial(forward, metres=5.0), 1_000_000, 1000
    ),
    "ant-wave-leg": Behaviour("Ant", {}, "stand on three legs and wave the front left leg", waves, 600_000, 1000),
    "ant-lie-down": Behaviour("Ant", LYING, "lie down on the ground and keep still", lies, 300_000, 1000),
    "fetch-reach": Behaviour(
        "FetchReach", {}, "move the gripper to the target and keep it there", reaches, 150_000, 50
    ),
}


def worlds(it: Behaviour, lanes: int, dense: bool = False) -> BatchEnv:
    """A batch of a behaviour's environment; of Fetch's with its own sparse reward, or the dense one."""
    if it.env in FALLS:
        made: Any = gym.make_vec(f"cairn/{it.env}-v5", num_envs=lanes, max_episode_steps=it.limit, **it.args)
        return made  # type: ignore[no-any-return]
    from cairn.envs import from_gymnasium

    def one() -> "gym.Env[Any, Any]":
        import gymnasium_robotics  # type: ignore[import-not-found,import-untyped,unused-ignore]

        gym.register_envs(gymnasium_robotics)
        return gym.wrappers.FlattenObservation(gym.make(f"{it.env}{'Dense' if dense else ''}-v4"))

    return from_gymnasium(one, lanes, facts=_fetched)


def _fetched(env: Any) -> dict[str, Any]:
    seen = env._get_obs()
    gripper, target = seen["achieved_goal"], seen["desired_goal"]
    near = float(((gripper - target) ** 2).sum() ** 0.5)
    return {"gripper": gripper, "target": target, "distance": near, "success": near < env.distance_threshold}


# ---- the search ------------------------------------------------------------------------------------------


def judged(seen: Recorded, shown: Callable[[Stretch], bool]) -> Recorded:
    """The episodes with the predicate's word for success, and without the environment's own reward."""
    success = torch.tensor([shown(seen.rows(e)) for e in range(len(seen))], dtype=torch.bool)
    x = replace(seen.x, reward=torch.zeros_like(seen.x.reward))
    return Recorded(x, success, torch.zeros(len(seen)))


@dataclass
class ByPredicate:
    """Trials whose score is the share of fresh episodes that a predicate passes."""

    trials: SideBySide
    shown: Callable[[Stretch], bool]

    def train(self, rewards: Sequence[Any], seed: int = 0) -> list[Trial]:
        """As ``Trials`` do; the environment's own return is nobody's business."""
        return [self._judged(trial) for trial in self.trials.train(rewards, seed)]

    def _judged(self, trial: Trial) -> Trial:
        if trial.error or trial.episodes is None:
            return trial
        lived = judged(trial.episodes, self.shown)
        course = {name: values for name, values in trial.course.items() if name not in ("task return", "success")}
        return replace(trial, score=float(lived.success.float().mean()), course=course, episodes=lived)


def feedback(candidate: Candidate) -> str:
    """What a round tells the next: the predicate's count, and what was found by rule; "" where all is well.

    Of several agents the worst one's episodes are described: a mean over unlike agents shows what none of them did.
    """
    scores = scores_of(candidate)
    if min(scores) >= GOAL:
        return ""
    lines = [f"In {candidate.score:.0%} of fresh episodes the agent did what was asked for, as a check on states says."]
    seen = None if candidate.trial is None else candidate.trial.episodes
    if len(scores) > 1:
        lines[0] = (
            f"Agents with {len(scores)} seeds did what was asked for in {', '.join(f'{s:.0%}' for s in scores)} of "
            "fresh episodes, as a check on states says. The one that did it least:"
        )
        if seen is not None:
            each = len(seen) // len(scores)
            seen = seen.pick(torch.arange(each) + each * scores.index(min(scores)))
    if seen is not None:
        lines += watched(seen)
    return "\n".join([*lines, *(f"- {finding}" for finding in candidate.findings)])


def scores_of(candidate: Candidate) -> tuple[float, ...]:
    """Of each agent that was trained on it."""
    assert candidate.trial is not None
    return candidate.trial.scores or (candidate.score,)


def stem(name: str, steps: int, limit: int, seed: int, seeds: int) -> str:
    """How the names of a search's recordings begin: no answer to the feedback of shorter trainings is one to longer."""
    it = BEHAVIOURS[name]
    own = "" if (steps, limit) == (it.steps, it.limit) else f"-{steps}" if limit == it.limit else f"-{steps}x{limit}"
    return f"{name}{own}-seed{seed}" if seeds == 1 else f"{name}{own}-seeds{seed}to{seed + seeds - 1}"


def behaviour(name: str, args: argparse.Namespace) -> Behaviour:
    """A behaviour with the steps, the limit and the seeds that were asked for."""
    it = BEHAVIOURS[name]
    return it._replace(**{what: getattr(args, what) or getattr(it, what) for what in ("steps", "limit", "seeds")})


class Searched(NamedTuple):
    """What came of a search."""

    rounds: list[tuple[float, ...]]
    """The scores of each round's agents."""
    again: list[float]
    """Of agents trained on the best program with other seeds."""
    prompts: str
    """In how many requests a recording's prompt was the very one; "" where a model was asked."""


def search(name: str, args: argparse.Namespace) -> Searched:
    """One behaviour.

    Raises:
        Unrecorded: Nobody has recorded an answer to the next prompt.
    """
    it = behaviour(name, args)
    batch = worlds(it, args.recorded)
    seen = judged(record(batch, seed=args.seed), it.shown)
    batch.close()
    trials = SideBySide(
        partial(worlds, it, args.envs), it.steps, agent_args=PPO, episodes=1, keep_episodes=args.episodes,
        deterministic=True,
    )  # fmt: skip
    shop = Workshop(
        it.env, it.task, seen, ByPredicate(trials, it.shown), folder=args.out / name, with_task=False, gate=0.0,
        docs=it.docs, seeds=it.seeds, say=lambda text: print(f"  {name}: {text}", flush=True),
    )  # fmt: skip
    shop.shown = tuple(i for i in shop.shown if i.name != "task_reward")
    with giver(name, args, shop.say) as (client, prompts):
        client.check()
        designer = Asked(client, VERSION, args.temperature, say=shop.say)
        found = text2reward(shop, designer, args.rounds, feedback, final_seeds=args.again, seed=args.seed)
        return Searched([scores_of(c) for c in found.candidates if c.outcome == "trained"], found.final, prompts())


@contextmanager
def giver(name: str, args: argparse.Namespace, say: Callable[[str], None]) -> Iterator[tuple[Any, Callable[[], str]]]:
    """A client of the server, or of one on this machine that has the recordings; and how many prompts were theirs."""
    from cairn.shaping.language import Client

    if args.recordings is None:
        yield Client(args.server, args.model, key_env=args.key_env or None), lambda: ""
        return
    # In the search's folder, since a search that goes on does not ask again.
    answered = Cells(args.out / name / "answered.csv", ("recording",))

    def told(path: Path, same: bool) -> None:
        say(f"{path.name} answers" + ("" if same else ", though its prompt has other numbers"))
        if not answered.done({"recording": path.name}):
            answered.add({"recording": path.name, "prompt": "the same" if same else "other numbers"})

    def count() -> str:
        same = [row["prompt"] == "the same" for row in answered.rows()]
        return f"{sum(same)} of {len(same)}"

    it = behaviour(name, args)
    about = f"{name} ({it.task}), seed {args.seed}: a recorded request. The completion was written by: ?"
    recordings = Recordings(args.recordings, stem(name, it.steps, it.limit, args.seed, it.seeds), about, told)
    with Standin(recordings, model=args.model) as server:
        try:
            yield Client(server.url, args.model, key_env=None), count
        except NobodyError:
            if recordings.missing is None:
                raise
            raise Unrecorded(recordings.missing) from None


def expert(name: str, args: argparse.Namespace) -> str:
    """The score of an agent trained as long on Fetch's own dense reward; the others have none for what is asked."""
    it = behaviour(name, args)
    if it.env in FALLS:
        return ""
    trials = SideBySide(
        partial(worlds, it, args.envs, True), it.steps, agent_args=PPO, episodes=1, keep_episodes=args.episodes,
        deterministic=True,
    )  # fmt: skip
    judge = ByPredicate(trials, it.shown)
    return agents(judge.train([Task()], args.seed + k)[0].score for k in range(it.seeds))


def agents(scores: Iterable[float]) -> str:
    """The scores of a program's agents, as a cell has them."""
    return "/".join(f"{score:.2f}" for score in scores)


def counts(row: dict[str, str]) -> tuple[str, str]:
    """Steps of a training and of an episode."""
    return f"{int(row['steps']):,}", f"{int(row['limit']):,}"


def table(rows: Sequence[dict[str, str]], model: str) -> str:
    """Every behaviour with what its searches came to, one for each number of steps, or that it was not run."""
    lines = [
        "| behaviour | task | steps of a training | of an episode | success by predicate, each round (each agent's) "
        "| best | over 94 % | the best again, other seeds | expert |",
        "|---|---|---:|---:|---|---:|---|---|---:|",
    ]
    for name, it in BEHAVIOURS.items():
        done = [row for row in rows if model and (row["behaviour"], row["model"]) == (name, model)]
        cells = [
            (*counts(row), row["rounds"] or "no program", *(row[what] for what in SHOWN))
            for row in sorted(done, key=lambda row: (int(row["seeds"]), int(row["steps"])))
        ] or [("", "", "not run here", *[""] * len(SHOWN))]
        lines += [f"| {name} | {it.task} | {' | '.join(cell)} |" for cell in cells]
    return "\n".join(lines)


def enough(row: dict[str, str], args: argparse.Namespace) -> bool:
    """Whether a search has all that is asked for: its rounds, fewer where one passed, and agents of other seeds."""
    rounds, again = (len(row[what].split()) for what in ("rounds", "again"))
    return (row["passed"] == "yes" or rounds >= int(args.rounds)) and again >= int(args.again)


def short_table() -> str:
    """The table of the recorded searches, for the page of all results."""
    return table(Cells(RESULTS / "behaviours" / "behaviours.csv", KEY).rows(), "recorded")


def main(argv: Sequence[str] | None = None) -> None:
    """Search for the rewards that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="an OpenAI-compatible server")
    parser.add_argument(
        "--recordings", type=Path, nargs="?", const=RECORDINGS, help=f"no server: recorded answers; {RECORDINGS.name}"
    )
    parser.add_argument("--model", default="", help="its name for the model")
    parser.add_argument("--key-env", default="OPENAI_API_KEY", help='the variable with its key; "" for none')
    parser.add_argument("--temperature", type=float, default=0.7, help="of the sampling")
    parser.add_argument("--only", nargs="+", choices=tuple(BEHAVIOURS), default=tuple(BEHAVIOURS), help="behaviours")
    parser.add_argument("--steps", type=int, help="environment steps of a training; by itself each behaviour's own")
    parser.add_argument("--limit", type=int, help="steps of an episode (not Fetch's); by itself each behaviour's own")
    parser.add_argument("--seeds", type=int, help="trainings of each program; by itself each behaviour's own number")
    parser.add_argument(
        "--rounds", type=int, default=3, help="trainings of a search, each with the feedback of the last"
    )
    parser.add_argument("--again", type=int, default=0, help="trainings on the best program with other seeds")
    parser.add_argument(
        "--more", action="store_true", help="go on with searches that are in the table, to more rounds or other seeds"
    )
    parser.add_argument("--envs", type=int, default=64, help="environments of a training")
    parser.add_argument("--recorded", type=int, default=64, help="episodes of random play that programs are tried on")
    parser.add_argument("--episodes", type=int, default=64, help="fresh episodes that the predicate judges")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "behaviours", help="folder of the table and the searches")
    args = parser.parse_args(argv)
    if args.server and args.recordings:
        parser.error("--server asks a model and --recordings nobody: one of them")
    args.model = args.model or ("recorded" if args.recordings else "")
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    cells = Cells(args.out / "behaviours.csv", KEY)
    unrecorded: list[str] = []
    for name in args.only if args.server or args.recordings else ():
        it = behaviour(name, args)
        key: dict[str, object] = dict(zip(KEY, (name, args.model, args.seed, it.seeds, it.steps, it.limit)))
        there = [row for row in cells.rows() if all(row[what] == str(value) for what, value in key.items())]
        if not there or args.more and not enough(there[0], args):
            try:
                found = search(name, args)
            except Unrecorded as missing:
                unrecorded.append(f"{name}: {missing}")
                continue
            best = max(reversed(found.rounds), key=fmean, default=(0.0,))
            told = {
                "rounds": " ".join(map(agents, found.rounds)), "best": f"{fmean(best):.2f}",
                "passed": "yes" if min(best) > GOAL else "no", "again": " ".join(f"{s:.2f}" for s in found.again),
                "prompts": found.prompts,
            }  # fmt: skip
            beside = there[0]["expert"] if there else expert(name, args)
            (cells.replace if there else cells.add)({**key, **told, "expert": beside})
    print(table(cells.rows(), args.model))
    if unrecorded:
        raise LanguageError("; ".join(unrecorded))
    if not args.server and not args.recordings:
        print("not run here: rewards for these need a capable model (--server URL --model NAME)")


if __name__ == "__main__":
    main()
