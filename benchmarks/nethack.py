"""ONI on NetHack: the game's own messages as captions, labelled while PPO trains; `cairn bench oni --task NetHack...`.

The tasks are those of the NetHack Learning Environment (Küttler et al., 2020; `pip install nle`, which pins Gymnasium
1.2: put it into an environment of its own, or a folder with a link to `nle` alone on PYTHONPATH). ONI (Zheng et al.,
2024) labels messages too. PPO sees a crop of 15 x 15 characters around the hero, one of nine kinds each, and seven
numbers of the status line in steps; it has no memory, and the budget is small: the tables compare rewards and say
nothing of how well NetHack can be played. ONI's reward is weighed against the task's as its authors did. PPO's
setting is the third that was tried, taken for what the task's reward alone did with it on Score.

The labeller is a stand-in with a stated rule (``worth``): 3 for going down or seeing a staircase down, 2 for a kill, 1
for gold or an item picked up, or food eaten, 0 for anything else; helpful is what is worth something, and of two the
one that is worth more is preferred. A message is a caption where it is new on the screen, its numbers all one.
"""

import importlib.util
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.benchmarks.dials import judged, others
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs import BatchEnv, from_gymnasium
from cairn.envs.kinds import Symbols
from cairn.shaping import ONI, Stretch, Task
from cairn.shaping.hashing import hash_rows
from cairn.shaping.language import Oracle, Question
from cairn.shaping.language.oni import MODES
from cairn.shaping.term import World

GOALS = {
    "NetHackStaircase-v0": "find the staircase down", "NetHackOracle-v0": "find the Oracle",
    "NetHackScore-v0": "score well at NetHack", "NetHackGold-v0": "collect gold",
}  # fmt: skip
TASKS = tuple(GOALS)
SIDE, KINDS, LANES = 15, 9, 32
PPO_ARGS: dict[str, Any] = {"n_steps": 64, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01}
STILL = {"learning_rate": 0.0, "n_epochs": 1}
ALONE = "random", "none"
# ONI's own proportions: 0.4 beside 0.1 of the score, and beside 10 of a sparse reward.
WEIGHTS = {task: 4.0 if task in ("NetHackScore-v0", "NetHackGold-v0") else 0.04 for task in TASKS}
BUDGET = 200_000
KEY = ("task", "reward", "seed", "budget", "weight")
MISSING = (
    "NetHack's tasks need the package nle (Linux, macOS): pip install nle. It pins Gymnasium 1.2, so install it into "
    "an environment of its own and put a folder with a link to its `nle` alone on PYTHONPATH"
)
_WORTH = (
    (3, re.compile(r"staircase down|You (?:climb|go|fall) (?:down|through)|opens up under you")),
    (2, re.compile(r"You (?:kill|destroy)")),
    (1, re.compile(r"(?:^|  )[\w$] - |You finish eating|This .* is delicious")),
)


def worth(message: str) -> int:
    """How great a step a message tells of."""
    return next((value for value, pattern in _WORTH if pattern.search(message)), 0)


def judge(question: Question) -> Any:
    """The right label, or preference, for a question of ONI's."""
    return judged(question, worth)


# ---- what PPO sees -------------------------------------------------------------------------------------

STEPS = {
    name: np.array(steps) for name, steps in {
        "x": range(8, 79, 8), "y": range(3, 21, 3), "health": (25, 50, 75, 100), "depth": (2, 3, 4, 5, 6, 8, 10),
        "gold": (1, 10, 30, 100, 300), "level": (2, 3, 4, 5, 6, 8, 10), "hunger": (1, 2, 3, 4),
    }.items()
}  # fmt: skip
"""From where on each number of the status line counts as the next category."""
_GROUPS = (" ", ".#", "|-", "+", "<", ">", "$", "")  # blank, floor, wall, door, stairs, gold, creatures; items are last


def kinds() -> np.ndarray[Any, Any]:
    """Of each character one of ``KINDS``."""
    table = np.full(256, KINDS - 1, np.uint8)
    for kind, characters in enumerate(_GROUPS):
        for c in characters:
            table[ord(c)] = kind
    table[[*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1), ord("@"), ord(":"), ord("&")]] = 7
    return table


class Seen(gym.ObservationWrapper[Any, Any, Any]):
    """The kinds of the characters around the hero and steps of the status line's numbers: symbols and categories."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        steps = [space.size + 1 for space in STEPS.values()]
        self.observation_space = gym.spaces.Dict(
            crop=Symbols((SIDE, SIDE, 1), (KINDS,)), status=gym.spaces.MultiDiscrete(steps)
        )
        self.kinds = kinds()
        self.wide: np.ndarray[Any, Any] = np.zeros(0, np.uint8)

    def observation(self, observation: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Look up, crop, and count the steps that each number is past."""
        chars, stats = observation["chars"], observation["blstats"]
        (rows, columns), half = chars.shape, SIDE // 2
        x, y = int(stats[0]), int(stats[1])
        if self.wide.size == 0:
            self.wide = np.zeros((rows + SIDE, columns + SIDE), np.uint8)
        self.wide[half : half + rows, half : half + columns] = self.kinds[chars]
        told = {"x": x, "y": y, "health": 100 * int(stats[10]) // max(int(stats[11]), 1), "depth": int(stats[12]),
                "gold": int(stats[13]), "level": int(stats[18]), "hunger": int(stats[21])}  # fmt: skip
        status = [int(space.searchsorted(told[name], "right")) for name, space in STEPS.items()]
        return {"crop": self.wide[y : y + SIDE, x : x + SIDE, None].copy(), "status": np.array(status)}


class OldFace(gym.Wrapper[Any, Any, Any, Any]):
    """The task with this Gymnasium's reset, and its message where it is new."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.game: Any = env.unwrapped
        self.game.told = np.zeros(256, np.uint8)
        self.before, self.draws = b"", np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """A new game, with seeds of its own for NetHack's generators: left alone, every game would be the first."""
        if seed is not None:
            self.draws = np.random.default_rng(seed)
        core, disp = self.draws.integers(1, 2**31, 2).tolist()
        self.game.seed(core=core, disp=disp, reseed=False)
        obs, info = self.env.reset()
        self.before = b""
        self._tell(obs)
        return obs, info

    def step(self, action: Any) -> Any:
        """As the game does; staircase and oracle tell their success."""
        obs, reward, terminated, truncated, info = self.env.step(int(action))
        self._tell(obs)
        ends = int(info["end_status"])
        return obs, reward, bool(terminated) and not truncated, bool(truncated), {**info, "success": ends == 2}

    def _tell(self, obs: Any) -> None:
        said = bytes(obs["message"]).rstrip(b"\0")
        now = np.zeros(256, np.uint8)
        if said != self.before:
            now[: len(said)] = np.frombuffer(said, np.uint8)[:256]
        self.game.told, self.before = now, said


def batch(task: str, lanes: int = LANES) -> BatchEnv:
    """A batch of a task.

    Raises:
        SystemExit: nle is not there.
    """
    if importlib.util.find_spec("nle") is None:
        raise SystemExit(MISSING)

    def one() -> "gym.Env[Any, Any]":
        from nle.env import tasks  # type: ignore[import-not-found,unused-ignore]

        made = getattr(tasks, task.removesuffix("-v0"))(
            observation_keys=("chars", "blstats", "message"), max_episode_steps=1000, render_mode=None
        )
        return Seen(OldFace(made))

    return from_gymnasium(one, lanes, facts=lambda env: {"message": env.told})


class Messages:
    """Captions that are the game's messages, without the numbers in them."""

    def bind(self, world: World) -> None:
        """Nothing to learn."""

    def codes(self, x: Stretch) -> Tensor:
        """The hash of each row's message ``[B]``; 0 where there is none that is new."""
        said = x.fact("message", of_next=True)
        # Digits are one: "6 gold pieces" is "9 gold pieces".
        said = torch.where((said >= ord("0")) & (said <= ord("9")), ord("0"), said.long())
        codes = hash_rows([said])
        return torch.where((said != 0).any(-1), torch.where(codes == 0, 1, codes), 0)

    def text(self, code: int, row: Stretch) -> str:
        """The message."""
        said = bytes(row.fact("message", of_next=True)[0].to(torch.uint8).tolist()).rstrip(b"\0")
        return re.sub(r"\d+", "0", said.decode("latin-1")).replace("\n", " ")


# ---- the table -----------------------------------------------------------------------------------------


def reward(name: str, task: str, seed: int) -> Any:
    """The task alone, or with ONI in one of its modes beside it."""
    if name in ALONE:
        return Task()
    oracle = Oracle(judge, others, 1.0, seed)
    return Task() + WEIGHTS[task] * ONI(oracle, name, Messages(), GOALS[task], schedule="barrier", every=1, workers=1)


def cell(task: str, name: str, seed: int, budget: int) -> dict[str, object]:
    """The columns that name a cell."""
    return dict(zip(KEY, (task, name, seed, budget, 0 if name in ALONE else WEIGHTS[task])))


def run(task: str, name: str, seed: int, budget: int) -> dict[str, object]:
    """Train once; the task's mean return and success in each eighth of the budget.

    "random" does not learn: a policy begins with all actions all but equally likely, and stays so.
    """
    env = batch(task)
    settings = PPO_ARGS | STILL if name == "random" else PPO_ARGS
    model = PPO("MlpPolicy", env, reward=reward(name, task, seed), seed=seed, **settings)
    began, cpu = time.perf_counter(), time.process_time()
    returns, success = [], []
    for k in range(8):
        missing = budget * (k + 1) // 8 - model.num_timesteps
        if missing > 0:
            model.learn(missing, reset_num_timesteps=k == 0)
        recent = model.recent()
        returns.append(recent.get("rollout/ep_rew_mean", float("nan")))
        success.append(recent.get("rollout/success_rate", float("nan")))
        print(f"\r{task} {name:14} seed {seed}: {model.num_timesteps:9,} steps, return {returns[-1]:.3f} ", end="")
    env.close()
    labels: dict[str, Any] = {}
    if model.reward is not None and name not in ALONE:
        node: Any = next(n for n in model.reward.order if n.name == "labels")
        labels = {"captions": len(node.texts), "labelled": node.labelled}
    print(f"{time.process_time() - cpu:.0f} CPU s", flush=True)
    return {
        **cell(task, name, seed, budget), "steps": model.num_timesteps,
        "return": f"{returns[-1]:.4f}", "success": f"{success[-1]:.3f}", "captions": labels.get("captions", 0),
        "labels": labels.get("labelled", 0), "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds_under_load": round(time.perf_counter() - began, 1),
        "returns": " ".join(f"{r:.3f}" for r in returns),
    }  # fmt: skip


def of_now(rows: Sequence[dict[str, str]], task: str, budget: int) -> list[dict[str, str]]:
    """The rows of a task, at this budget and with the weight as it is now."""
    weights = {"0", str(WEIGHTS[task])}
    return [r for r in rows if r["task"] == task and int(r["budget"]) == budget and r["weight"] in weights]


def table(rows: Sequence[dict[str, str]], task: str, budget: int) -> str:
    """Return and success of the last hundred episodes, IQM over seeds with the interval."""
    lines = ["| reward | seeds | return | 95 % | success |", "|---|---:|---:|---:|---:|"]
    mine = of_now(rows, task, budget)
    for name in dict.fromkeys(r["reward"] for r in mine):
        own = [r for r in mine if r["reward"] == name]
        returns = [float(r["return"]) for r in own]
        if any(map(math.isnan, returns)):
            lines.append(f"| {name} | {len(own)} | no episode has ended | | |")
            continue
        low, high = interval(returns)
        won = iqm([float(r["success"]) for r in own])
        lines.append(f"| {name} | {len(own)} | {iqm(returns):.3f} | {low:.3f} to {high:.3f} | {won:.2f} |")
    return "\n".join(lines)


def short_table() -> str:
    """A row for each reward: return on the two tasks with its interval, and how often the staircase was found."""
    rows = Cells(RESULTS / "oni" / "nethack.csv", KEY).rows()
    lines = ["| reward | Staircase, return | Staircase, found | Score, return |", "|---|---|---|---|"]
    stairs, score = (of_now(rows, f"NetHack{name}-v0", BUDGET) for name in ("Staircase", "Score"))

    def told(rows: Sequence[dict[str, str]], name: str, column: str, style: str) -> str:
        values = [float(r[column]) for r in rows if r["reward"] == name]
        if not values:
            return ""
        if len(values) == 1:
            return f"{values[0]:{style}} (one seed)"
        low, high = interval(values)
        return f"{iqm(values):{style}} ({low:{style}} to {high:{style}}; {len(values)} seeds)"

    for name in (*ALONE, *MODES):
        cells = [told(stairs, name, "return", ".2f"), told(stairs, name, "success", ".0%")]
        cells.append(told(score, name, "return", ".1f"))
        shown = {"random": "random actions", "none": "the task alone"}.get(name, f"with ONI, {name}")
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def solve(args: Any) -> None:
    """Run the cells of a task that are missing, the first seed of all first; then the table."""
    torch.set_num_threads(1)
    cells = Cells(args.out / "nethack.csv", KEY)
    for seed in range(args.seeds):
        for name in (*ALONE, *MODES):
            done = cells.done(cell(args.task, name, seed, args.budget))
            if (not args.only or name in args.only) and not done:
                cells.add(run(args.task, name, seed, args.budget))
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    print(f"{args.task}, {args.budget:,} steps, one thread. {facts}\n\n{table(cells.rows(), args.task, args.budget)}")
