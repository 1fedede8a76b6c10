"""Text2Reward's new behaviours of Hopper and Ant, judged by predicates, and Fetch beside the expert's reward.

    python benchmarks/behaviours.py --server http://127.0.0.1:8000/v1 --model NAME [--only hopper-front-flip ...]
    python benchmarks/behaviours.py        # without a server: what would be run, each cell "not run here"

Xie et al., "Text2Reward: Reward Shaping with Language Models for Reinforcement Learning" (2024), section 4, has people
judge videos of six behaviours, over 94 % of them right; here a predicate on the states of each fresh episode stands for
the judge. The model is shown the typed world (positions and velocities of joints and bodies, what is in contact) and
the sentence, never the environment's own reward, and after each training what was found and how many episodes the
predicate passed. FetchReach (gymnasium-robotics, extra "bench"; 1.4.2 makes it with MuJoCo before 4 alone) is judged by
its own word for success, and "expert" is an agent trained as long on its own dense reward. Any OpenAI-compatible server
will do (extra "language"); programs run in the jail. A search that was killed goes on from its folder.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from cairn.agents.design import SideBySide
from cairn.agents.designing import Asked
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs import BatchEnv
from cairn.shaping import Stretch, Task
from cairn.shaping.language.search import Candidate, Recorded, Trial, Workshop, record, text2reward

GOAL = 0.94
PPO = {"n_steps": 128, "batch_size": 1024, "n_epochs": 5, "learning_rate": 3e-4, "ent_coef": 0.0}
LYING = {"terminate_when_unhealthy": False}
QPOS = {
    "Hopper": "a leg that hops in a plane: qpos is x, z (m), pitch of the torso (rad, positive leans forward, not "
    "wrapped), angles of thigh, leg and foot",
    "Ant": "a torso on four legs: qpos is x, y, z (m), orientation (quaternion w, x, y, z), then hip and ankle of each "
    "leg: front left, front right, back left, back right (rad)",
}


DOCS = {"gripper": "x, y, z of the gripper (m)", "target": "x, y, z of where it is to be (m)"}


class Behaviour(NamedTuple):
    """What an agent is to do, and who says that it does."""

    env: str
    args: dict[str, Any]
    """Hopper's and Ant's; of Fetch the variant's suffix is in its name."""
    task: str
    shown: Callable[[Stretch], bool]
    """From the transitions of one episode ``[L]``."""


# ---- predicates: each looks at the states of one episode -------------------------------------------------


def _qpos(x: Stretch) -> Tensor:
    return torch.cat([x.fact("qpos")[:1], x.fact("qpos", of_next=True)])


def forward(x: Stretch, metres: float) -> bool:
    """It came so far along x, and did not fall."""
    where = _qpos(x)[:, 0]
    return float(where[-1] - where[0]) >= metres and not bool(x.terminated.any())


def flip(x: Stretch, way: float) -> bool:
    """After a whole turn of the torso, ``way`` 1 forwards and -1 backwards, it stood on its foot again."""
    state = _qpos(x)[1:]
    turned = way * state[:, 2]
    upright = (turned - (turned / math.tau).round() * math.tau).abs() < 0.5
    stands = upright & (state[:, 1] > 0.7) & x.fact("feet", of_next=True)[:, 0].bool()
    return bool((stands & (turned > math.tau - 0.5)).any())


def waves(x: Stretch, leg: int = 0) -> bool:
    """In the last 200 steps one foot is in the air most of the time, its hip swings to and fro, the torso stands."""
    last = x[-200:]
    hip, aloft = _qpos(last)[:, 7 + 2 * leg], ~last.fact("feet", of_next=True)[:, leg].bool()
    away = hip - hip.mean()
    side = torch.sign(away[away.abs() > 0.15])
    swings = int((side[1:] != side[:-1]).sum())
    stands = bool((_qpos(last)[:, 2] > 0.3).all()) and not bool(x.terminated.any())
    return stands and len(last.t) == 200 and float(aloft.float().mean()) > 0.8 and swings >= 4


def lies(x: Stretch) -> bool:
    """In the last 50 steps the torso is on the ground, or as near as it gets, and still."""
    last = _qpos(x[-50:])[:, :3]
    still = float((last[1:] - last[:-1]).norm(dim=1).max()) < 0.02
    return len(x.t) >= 50 and bool((last[:, 2] < 0.35).all()) and still


def reaches(x: Stretch) -> bool:
    """At the end the gripper is at the target."""
    return bool(x.fact("success", of_next=True)[-1])


BEHAVIOURS = {
    "hopper-forward": Behaviour("Hopper", {}, "hop forward without falling", partial(forward, metres=4.0)),
    "hopper-front-flip": Behaviour("Hopper", LYING, "do a front flip and land on the foot", partial(flip, way=1.0)),
    "hopper-back-flip": Behaviour("Hopper", LYING, "do a back flip and land on the foot", partial(flip, way=-1.0)),
    "ant-forward": Behaviour("Ant", {}, "walk forward along x without falling", partial(forward, metres=5.0)),
    "ant-wave-leg": Behaviour("Ant", {}, "stand on three legs and wave the front left leg", waves),
    "ant-lie-down": Behaviour("Ant", LYING, "lie down on the ground and keep still", lies),
    "fetch-reach": Behaviour("FetchReach", {}, "move the gripper to the target and keep it there", reaches),
}


def worlds(it: Behaviour, lanes: int, dense: bool = False) -> BatchEnv:
    """A batch of a behaviour's environment; of Fetch's with its own sparse reward, or the dense one."""
    if it.env in QPOS:
        made: Any = gym.make_vec(f"cairn/{it.env}-v5", num_envs=lanes, **it.args)
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
    """What a round tells the next: the predicate's count, and what was found by rule; "" where all is well."""
    if candidate.score >= GOAL:
        return ""
    lines = [f"In {candidate.score:.0%} of fresh episodes the agent did what was asked for, as a check on states says."]
    return "\n".join([*lines, *(f"- {finding}" for finding in candidate.findings)])


def search(name: str, args: argparse.Namespace) -> list[float]:
    """One behaviour: the score of each round's agent."""
    it = BEHAVIOURS[name]
    batch = worlds(it, args.recorded)
    seen = judged(record(batch, seed=args.seed), it.shown)
    batch.close()
    trials = SideBySide(
        partial(worlds, it, args.envs), args.steps, agent_args=PPO, episodes=1, keep_episodes=args.episodes
    )
    shop = Workshop(
        it.env, it.task, seen, ByPredicate(trials, it.shown), folder=args.out / name, with_task=False, gate=0.0,
        docs=DOCS | ({"qpos": QPOS[it.env]} if it.env in QPOS else {}),
        say=lambda text: print(f"  {name}: {text}", flush=True),
    )  # fmt: skip
    shop.shown = tuple(i for i in shop.shown if i.name != "task_reward")
    from cairn.shaping.language import Client

    client = Client(args.server, args.model, key_env=args.key_env or None)
    client.check()
    designer = Asked(client, "reward-design@2", args.temperature)
    found = text2reward(shop, designer, args.rounds, feedback, seed=args.seed)
    return [c.score for c in found.candidates if c.outcome == "trained"]


def expert(name: str, args: argparse.Namespace) -> str:
    """The score of an agent trained as long on Fetch's own dense reward; the others have none for what is asked."""
    it = BEHAVIOURS[name]
    if it.env in QPOS:
        return ""
    trials = SideBySide(
        partial(worlds, it, args.envs, True), args.steps, agent_args=PPO, episodes=1, keep_episodes=args.episodes
    )
    return f"{ByPredicate(trials, it.shown).train([Task()], args.seed)[0].score:.2f}"


def table(rows: Sequence[dict[str, str]], model: str) -> str:
    """Every behaviour with what it came to, or that it was not run."""
    done = {row["behaviour"]: row for row in rows if row["model"] == model and model}
    lines = [
        "| behaviour | task | success by predicate, each round | best | over 94 % | expert |",
        "|---|---|---|---:|---|---:|",
    ]
    for name, it in BEHAVIOURS.items():
        row = done.get(name)
        cell = ("not run here", "", "", "")
        if row is not None:
            cell = row["rounds"] or "no program", row["best"], row["passed"], row["expert"]
        lines.append(f"| {name} | {it.task} | {' | '.join(cell)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Search for the rewards that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="an OpenAI-compatible server")
    parser.add_argument("--model", default="", help="its name for the model")
    parser.add_argument("--key-env", default="OPENAI_API_KEY", help='the variable with its key; "" for none')
    parser.add_argument("--temperature", type=float, default=0.7, help="of the sampling")
    parser.add_argument("--only", nargs="+", choices=tuple(BEHAVIOURS), default=tuple(BEHAVIOURS), help="behaviours")
    parser.add_argument("--steps", type=int, default=4_000_000, help="environment steps of a training")
    parser.add_argument(
        "--rounds", type=int, default=3, help="trainings of a search, each with the feedback of the last"
    )
    parser.add_argument("--envs", type=int, default=64, help="environments of a training")
    parser.add_argument("--recorded", type=int, default=64, help="episodes of random play that programs are tried on")
    parser.add_argument("--episodes", type=int, default=64, help="fresh episodes that the predicate judges")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "behaviours", help="folder of the table and the searches")
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    cells = Cells(args.out / "behaviours.csv", ("behaviour", "model", "seed", "steps"))
    for name in args.only if args.server else ():
        key: dict[str, object] = {"behaviour": name, "model": args.model, "seed": args.seed, "steps": args.steps}
        if not cells.done(key):
            scores = search(name, args)
            best = max(scores, default=0.0)
            rounds = " ".join(f"{s:.2f}" for s in scores)
            passed = "yes" if best > GOAL else "no"
            cells.add({**key, "rounds": rounds, "best": f"{best:.2f}", "passed": passed, "expert": expert(name, args)})
    print(table(cells.rows(), args.model))
    if not args.server:
        print("not run here: rewards for these need a capable model (--server URL --model NAME)")


if __name__ == "__main__":
    main()
