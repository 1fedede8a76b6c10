"""Credit transforms where a learned step reward, summed plainly, is exploited: gates, clipping, Delta, the minimum.

    python benchmarks/credit.py [--seeds 5]     # or: cairn bench credit; goes on where it was stopped
    python benchmarks/credit.py --render        # only the table and the picture anew

As where language models are tuned: a base policy that succeeds now and then is tuned with PPO by every method for the
same steps, on a step reward that was learned:

- ``gates``: G-RA (threshold swept; posterior gating is any threshold between failure and success), clipping, Delta, and
  both, beside the outcome alone, the step reward alone, and the two summed. The step reward is ``chance``, the
  probability of success from the state after the step, learned from the base policy's own episodes;
- ``planned``: the minimum (PURE) beside the sum and the outcome alone, without discount as in the paper. The step
  reward is ``right``, the probability that an action is a step of a shortest plan, learned from a planner's labels
  (``credit_steps.py``), one network for all seeds. All of them learn from rollouts of two times an episode's limit, and
  the minimum from whole episodes alone (``PPO(whole_episodes=True)``): it is known when an episode has ended. The base
  policy takes most of its 128 steps, and many of them are wrong: the minimum is next to 0 in good and bad episodes;
- ``cloned``: the same from a base policy that is as weak in what it comes to, and stronger in its steps. It is cloned
  from the planner's right steps until it succeeds in a fifth of levels within 28 steps. The end of the time is the end
  of the task, as a length limit is for a solution: where an episode is cut, the agent adds what the critic expects
  beyond the cut, and a failure earns more than its minimum. Episodes then have a few wrong steps, and the minimum says
  which was the last. Rollouts are four times as long as an episode may be;
- ``cloned_fast``: the same with twice PPO's step size (0.002), which is too large for the outcome alone;
- ``long``: the same where an episode is long and its outcome says little: SimpleCrossing of size 19 with 7 walls,
  whose shortest plans take 44 steps on average, in 74 (5 / 3 of that, as in ``cloned``), from 5 % success. The step
  size, 0.002, is the outcome's best of three on seed 0 in 303,104 steps, found before the minimum was tried. Over five
  seeds 0.001 is better for the outcome alone, and what the minimum needs is said beside both; 0.002 is the best of
  three for the minimum too.

In the first two, base policies are PPO's with NovelD, stopped early.

What was tried for ``long``. MultiRoom-N6 in 78 steps came first. With the outcome's best step size of three on two
seeds (0.0005) the outcome alone has 0.39 and 0.29 after 299,520 steps and 0.79 and 0.62 after 499,200, the sum 0.04
and 0.01 after 299,520, and the minimum 0.46 and 0.51: it is ahead early, and then slow. With step size 0.001 and
weights 1, 3 and 5 (temperatures 0.1 to 0.5, four runs) it has 0.15 to 0.32 after 199,680: with weight 5 success falls
from 0.34 to 0.12 while the step reward's sum rises from 63 to 71 of 78, so what was learned there can be earned
without arriving. A view of 7 x 7 hardly tells the way there from the way back, and right steps are told in 93.6 % of
cases (96.6 % on SimpleCrossing). On SimpleCrossing there were two pilots of the minimum, on seed 0, with weights 1 and
3; 1 is that of ``cloned`` and was kept.

Measured every few rollouts on 100 fresh levels by the frozen policy: success, and the proxy, which is the episode's sum
of the learned step reward. ``loop``: the discounted return of turning left in one place until the time is up.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch, fresh_seed, own_randomness
from cairn.agents.training import acting
from cairn.benchmarks.credit_steps import ACTIONS, WALKING, Chart, Lessons, StepReward, labelled, learn
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs.batch import BatchEnv, BatchWrapper
from cairn.envs.grid.engine import GridBatch
from cairn.envs.spaces import Tree, tree_map
from cairn.shaping import Clipped, Delta, Gated, MinForm, NovelD, RolloutSeat, Task, as_reward
from cairn.shaping.networks import Encoder, Whitening, mlp
from cairn.shaping.seats_env import ShapedBatch
from cairn.shaping.stretch import Stretch
from cairn.shaping.term import World

LIMIT, LANES, LEVELS, LESSONS, ROLLOUT, EVERY = 128, 64, 100, 48_000, 128, 8_192
PLANNED = 96  # steps in each of LANES levels that a planner labels
SOLVED = 0.9  # the success that counts as solved
SHORT, WINDOW = 28, 3  # steps of an episode, and measurements to a mean, in ``cloned``
LONG = 74  # steps of an episode in ``long``
OTHERS = {"outcome": (5e-4, 1e-3), "outcome + minimum": (1e-3, 4e-3)}  # step sizes there, beside that of all methods
KEY = ("study", "method", "seed", "budget")


class Levels(NamedTuple):
    """Where a study takes place."""

    task: str
    kwargs: tuple[tuple[str, Any], ...]
    """What differs from the id's own settings."""
    actions: tuple[int, ...]
    """What a planner needs there."""
    limit: int
    """Steps of an episode, unless the study has fewer, and of those that the planner labels."""
    charted: bool
    """Whether distances are known from every state, or there is a search from each that is met."""

    @property
    def name(self) -> str:
        """The id, and what differs."""
        return " ".join([self.task, *(f"{key}={value}" for key, value in self.kwargs)])


DOORKEY = Levels("cairn/MiniGrid-DoorKey-8x8-v0", (), ACTIONS, LIMIT, False)
CROSSING = Levels("cairn/MiniGrid-SimpleCrossingS11N5-v0", (("size", 19), ("num_crossings", 7)), WALKING, 200, True)


class Study(NamedTuple):
    """The setting that a group of methods shares."""

    budget: int
    """Steps of tuning."""
    gamma: float
    """The agent's discount."""
    reward: str
    """The learned step reward: ``chance`` or ``right``."""
    base: float
    """Success of the base policy, at least."""
    lanes: int
    """Environments of the tuning."""
    settings: dict[str, Any]
    """PPO's, for all methods."""
    whole: bool
    """Whether rewards that are known at the end of an episode are learned from whole episodes alone."""
    methods: dict[str, Callable[[Any], Any]]
    """Name -> the reward to train on, of the learned step reward."""
    limit: int = LIMIT
    """Steps of an episode."""
    ends: bool = False
    """Whether the task is over when the time is up, or the episode is cut: nothing is worth anything beyond an end."""
    cloned: bool = False
    """Whether the base policy is cloned from the planner's right steps, or is PPO's with NovelD."""
    every: int = EVERY
    """Steps between two measurements."""
    window: int = 1
    """Success is the mean of so many measurements, where steps are counted to it and at the end."""
    levels: Levels = DOORKEY
    """The world."""
    rates: Mapping[str, float] = {}
    """Step sizes of methods that do not have the study's."""

    def at(self, method: str) -> "Study":
        """With the step size of a method."""
        rate = self.rates.get(method)
        return self if rate is None else self._replace(settings={**self.settings, "learning_rate": rate})


STUDIES = {
    "gates": Study(
        131_072, 0.99, "chance", 0.2, LANES, {"n_steps": ROLLOUT}, False,
        {
            "outcome": lambda r: Task(),
            "steps alone": lambda r: r,
            "outcome + steps": lambda r: Task() + r,
            # The task pays 1 - 0.9 t / 640 on success: any, within 71 steps, within 35, within 21.
            "gated, 0.5": lambda r: Task() + Gated(r, 0.5),
            "gated, 0.9": lambda r: Task() + Gated(r, 0.9),
            "gated, 0.95": lambda r: Task() + Gated(r, 0.95),
            "gated, 0.97": lambda r: Task() + Gated(r, 0.97),
            "clipped": lambda r: Task() + 0.02 * Clipped(r, 0.9),
            "delta": lambda r: Task() + 0.5 * Delta(r),
            "clipped, delta": lambda r: Task() + 0.5 * Delta(Clipped(r, 0.9)),
        },
    ),
    "planned": Study(
        65_536, 1.0, "right", 0.04, 32, {"n_steps": 2 * LIMIT}, True,
        {
            "outcome": lambda r: Task(),
            "steps alone": lambda r: r,
            "outcome + steps": lambda r: Task() + r,
            "outcome + minimum": lambda r: Task() + MinForm(r, 0.3, of="future"),
            "minimum": lambda r: MinForm(r, 0.3, of="future"),
        },
    ),
}  # fmt: skip
STUDIES["cloned"] = STUDIES["planned"]._replace(
    budget=131_072, base=0.2, settings={"n_steps": 4 * SHORT}, limit=SHORT, ends=True, cloned=True, every=3_584,
    window=WINDOW,
)  # fmt: skip
STUDIES["cloned_fast"] = STUDIES["cloned"]._replace(
    settings={"n_steps": 4 * SHORT, "learning_rate": 2e-3},
    methods={name: STUDIES["cloned"].methods[name] for name in ("outcome", "outcome + minimum")},
)  # fmt: skip
STUDIES["long"] = STUDIES["cloned"]._replace(
    budget=397_824, base=0.05, settings={"n_steps": 4 * LONG, "learning_rate": 2e-3}, limit=LONG, every=128 * LONG,
    levels=CROSSING,
    methods={
        **STUDIES["cloned"].methods,
        **{f"{name}, {rate}": STUDIES["cloned"].methods[name] for name, rates in OTHERS.items() for rate in rates},
    },
    rates={f"{name}, {rate}": rate for name, rates in OTHERS.items() for rate in rates},
)  # fmt: skip


class TimeIsUp(BatchWrapper):
    """Episodes end with the task not done where they would be cut."""

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and end."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return obs, reward, terminated | truncated, torch.zeros_like(truncated), info


def made(levels: Levels, lanes: int, limit: int | None = None, **more: Any) -> BatchEnv:
    """Environments of the levels."""
    kwargs = {**dict(levels.kwargs), **more}
    envs = gym.make_vec(levels.task, num_envs=lanes, max_episode_steps=limit or levels.limit, **kwargs)
    assert isinstance(envs, BatchEnv)
    return envs


def worlds(lanes: int, study: Study | None = None) -> BatchEnv:
    """The task, with less time than it usually has."""
    envs = made(DOORKEY, lanes, LIMIT) if study is None else made(study.levels, lanes, study.limit)
    return TimeIsUp(envs) if study is not None and study.ends else envs


# ---- the learned step rewards --------------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """A network V from states to the chance of success, learned from a base policy's own episodes."""

    network: nn.Module
    whitening: Whitening

    def value(self, obs: Tree, lead: tuple[int, ...]) -> Tensor:
        """V of observations ``[*lead, ...]``."""
        flat = tree_map(lambda part: part.reshape(-1, *part.shape[len(lead) :]), obs)
        out: Tensor = self.network(self.whitening(flat))[:, 0].sigmoid()
        return out.reshape(lead)

    def chance(self, x: Stretch) -> Tensor:
        """The chance of success after the step, in [0, 1]; where the task has ended, whether it succeeded."""
        return torch.where(x.terminated, (x.reward > 0).float(), self.value(x.next_obs, tuple(x.rows)))


@torch.no_grad()
def lived(model: PPO, seed: int) -> tuple[Tree, Tensor, Tensor]:
    """The base policy's own steps: observations ``[T * N, ...]``, and success, ends ``[T, N]``."""
    envs, act = worlds(LANES), acting(model, False)
    obs, _ = envs.reset(seed=seed)
    seen, paid, ends = [], [], []
    for _ in range(LESSONS // LANES):
        seen.append(tree_map(torch.clone, obs))
        obs, reward, terminated, truncated, _ = envs.step(act(obs))
        paid.append(reward > 0)
        ends.append(terminated | truncated)
    rows = tree_map(lambda *parts: torch.cat(parts), *seen)
    return rows, torch.stack(paid), torch.stack(ends)


def judge(model: PPO, seed: int) -> Judge:
    """Learn V from the steps of episodes that ended, by cross-entropy."""
    with own_randomness(fresh_seed(seed, "credit", "lessons")):
        obs, paid, ends = lived(model, fresh_seed(seed, "credit", "levels"))
    target, known = torch.zeros_like(paid, dtype=torch.float32), torch.zeros_like(ends)
    value, ended = torch.zeros(LANES), torch.zeros(LANES, dtype=torch.bool)
    for t in range(len(paid) - 1, -1, -1):
        value = torch.where(ends[t], paid[t].float(), value)
        ended = ended | ends[t]
        target[t], known[t] = value, ended
    rows, wanted = known.flatten().nonzero()[:, 0], target.flatten()
    generator = torch.Generator().manual_seed(seed)
    whitening = Whitening(model.observation_space)
    network = nn.Sequential(Encoder(whitening.parts, 64, generator), mlp([64, 64, 1], generator))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(8):
        for index in torch.split(rows[torch.randperm(len(rows), generator=generator)], 512):
            said = network(whitening(tree_map(lambda part: part[index], obs)))[:, 0]  # noqa: B023
            loss = nn.functional.binary_cross_entropy_with_logits(said, wanted[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.requires_grad_(False)
    return Judge(network, whitening)


# ---- one study -----------------------------------------------------------------------------------------


@cache
def lessons(levels: Levels, steps: int) -> Lessons:
    """A planner's labels, for all seeds."""
    facts: dict[str, Any] = {"facts": ("hash",)} if levels.charted else {}
    envs = made(levels, LANES, **facts)
    assert isinstance(envs, GridBatch)
    return labelled(envs, steps, look=Chart(envs, levels.actions) if levels.charted else None)


@cache
def step_reward(levels: Levels, steps: int) -> StepReward:
    """The network for all seeds, learned once."""
    began = time.process_time()
    envs = made(levels, LANES)
    assert isinstance(envs, GridBatch)
    found = learn(envs, lessons(levels, steps))
    told = f"{found.rows:,} labels, right on {found.accuracy:.1%} of those held out"
    print(f"step reward: {told}, {time.process_time() - began:.0f} s", flush=True)
    return found


def base_policy(seed: int, least: float) -> PPO:
    """PPO with NovelD, stopped as soon as it succeeds now and then."""
    model = PPO("MlpPolicy", worlds(LANES), reward=Task() + 0.01 * NovelD(), seed=seed, n_steps=64)
    while measure(model, Task(), seed, STUDIES["planned"])[0] < least:
        model.learn(4096, reset_num_timesteps=model.num_timesteps == 0)
        if model.num_timesteps > 1_000_000:
            raise RuntimeError(f"no base policy with {least:.0%} success for seed {seed} in 1,000,000 steps")
    return model


def cloned_policy(seed: int, study: Study) -> PPO:
    """A policy that the planner's right steps have been made likelier in, until it succeeds now and then."""
    model = PPO("MlpPolicy", worlds(study.lanes, study), seed=seed, n_steps=16)
    obs, action, right = lessons(study.levels, PLANNED)
    rows, generator = right.nonzero()[:, 0], torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.policy.parameters(), 1e-3)
    for _ in range(150):
        if measure(model, Task(), seed, study)[0] >= study.base:
            return model
        for _ in range(10):
            index = rows[torch.randint(len(rows), (128,), generator=generator)]
            some = tree_map(lambda part: part[index], obs)  # noqa: B023
            loss = -model.policy.evaluate_actions(some, action[index])[1].mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    raise RuntimeError(f"no clone with {study.base:.0%} success for seed {seed} in 1,500 updates")


def measure(model: PPO, steps: Any, seed: int, study: Study) -> tuple[float, float, float]:
    """Success, mean sum of the step reward, and mean length of the frozen policy's episodes on fresh levels."""
    fresh = fresh_seed(seed, "credit", model.num_timesteps)
    envs = ShapedBatch(worlds(LEVELS, study), deepcopy(as_reward(steps)))
    with own_randomness(fresh):
        found = evaluate_batch(acting(model, False), envs, LEVELS, fresh)
    assert found.success is not None
    return found.success, found.return_mean, found.length_mean


def tune(base: PPO, reward: Any, steps: Any, budget: int, study: Study, seed: int, name: str) -> dict[str, str]:
    """Train a copy of the base policy on a reward; the curves as text."""
    reward = deepcopy(as_reward(reward))
    model = PPO(
        "MlpPolicy", worlds(study.lanes, study), reward=reward, seed=seed, gamma=study.gamma,
        whole_episodes=study.whole and any(reward.late), **study.settings,
    )  # fmt: skip
    actor = {key: part for key, part in base.policy.state_dict().items() if "value" not in key}
    model.policy.load_state_dict({**model.policy.state_dict(), **actor})  # with a critic of its own: returns differ
    points = [(0, *measure(model, steps, seed, study))]
    while model.num_timesteps < budget:
        model.learn(study.every, reset_num_timesteps=model.num_timesteps == 0)
        points.append((model.num_timesteps, *measure(model, steps, seed, study)))
        print(f"\r{name}: {points[-1][0]:,} steps, success {points[-1][1]:4.0%}, proxy {points[-1][2]:7.2f} ", end="")
    print(flush=True)
    names = ("steps", "success", "proxy", "length")
    return {name: " ".join(f"{p[i]:.4g}" if i else str(p[i]) for p in points) for i, name in enumerate(names)}


def loop(reward: Any, gamma: float, limit: int | None = None, levels: Levels = DOORKEY) -> float:
    """The discounted return of turning left until the time is up, mean over levels: credit stands at its own step."""
    limit = LIMIT if limit is None else limit
    envs = made(levels, LEVELS, limit)
    obs, _ = envs.reset(seed=0)
    rows: list[tuple[Tree, Tree, Tensor, Tensor, Tensor]] = []
    for _ in range(limit):
        before = tree_map(torch.clone, obs)
        obs, paid, terminated, truncated, info = envs.step(torch.zeros(LEVELS, dtype=torch.int64))
        after = info["final_obs"] if len(rows) == limit - 1 else obs
        rows.append((before, tree_map(torch.clone, after), paid.clone(), terminated.clone(), truncated.clone()))
    now, following, task, ended, cut = (tree_map(lambda *parts: torch.stack(parts), *column) for column in zip(*rows))
    start = torch.zeros_like(ended)
    start[0] = True
    x = Stretch.make(
        obs=now, next_obs=following, reward=task, terminated=ended, truncated=cut, start=start,
        t=torch.arange(limit)[:, None].expand(limit, LEVELS),
    )  # fmt: skip
    world = World(envs.single_observation_space, envs.single_action_space, lanes=LEVELS, gamma=gamma)
    earned = RolloutSeat(as_reward(reward), world)(x, 0)[0].sum(-1)
    return float((gamma ** torch.arange(limit)[:, None] * earned).sum(0).mean())


def run(names: Sequence[str], seed: int, budget: int | None, cells: Cells) -> None:
    """The methods that are missing, for one seed: all tune the same base policy."""
    most = {name: budget or STUDIES[name].budget for name in names}
    todo = {n: [m for m in STUDIES[n].methods if not cells.done(cell(n, m, seed, most[n]))] for n in names}
    if not any(todo.values()):
        return
    for name in names:
        if not todo[name]:
            continue
        study, began = STUDIES[name], time.process_time()
        base = cloned_policy(seed, study) if study.cloned else base_policy(seed, study.base)
        spent = time.process_time() - began
        print(f"{name}, seed {seed}: base policy of {base.num_timesteps:,} steps, {spent:.0f} s", flush=True)
        steps = judge(base, seed).chance if study.reward == "chance" else step_reward(study.levels, PLANNED).right
        for method in todo[name]:
            began = time.process_time()
            reward, what = study.methods[method](as_reward(steps).term), f"{name}, {method}, seed {seed}"
            curves = tune(base, reward, steps, most[name], study.at(method), seed, what)
            turned = loop(study.methods[method](as_reward(steps).term), study.gamma, study.limit, study.levels)
            cells.add({
                **cell(name, method, seed, most[name]), "base_steps": base.num_timesteps, "loop": f"{turned:.4g}",
                "cpu_seconds": f"{time.process_time() - began:.1f}", **curves,
            })  # fmt: skip


def cell(study: str, method: str, seed: int, budget: int) -> dict[str, object]:
    """The columns that name a cell."""
    return {"study": study, "method": method, "seed": seed, "budget": budget}


# ---- report --------------------------------------------------------------------------------------------


def successes(row: dict[str, str], window: int = 1) -> list[float]:
    """A run's success after each measurement, as the mean of the last ``window`` ones."""
    found = [float(success) for success in row["success"].split()]
    parts = [found[max(i + 1 - window, 0) : i + 1] for i in range(len(found))]
    return [sum(part) / len(part) for part in parts]


def steps_to(row: dict[str, str], goal: float, window: int = 1) -> float:
    """Steps at which a run's success first was as high; infinite where it never was."""
    points = zip(row["steps"].split(), successes(row, window))
    return next((float(at) for at, success in points if success >= goal), float("inf"))


def goal_of(rows: Sequence[dict[str, str]], window: int = 1) -> float:
    """90 %, or what the outcome alone comes to by the end, where that is less."""
    ends = [successes(row, window)[-1] for row in rows if row["method"] == "outcome"]
    return round(min(SOLVED, iqm(ends)), 2) if ends else SOLVED


def table(study: str, rows: Sequence[dict[str, str]]) -> str:
    """A study's table in Markdown: IQM over seeds and 95 % intervals."""
    window = STUDIES[study].window
    goal = goal_of(rows, window)
    titles = ["method", "seeds", "success at the end", f"steps to {goal:.0%}", "of outcome's"]
    lines = [
        f"| {' | '.join([*titles, 'proxy, first', 'proxy, last', 'loop'])} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    outcome = [steps_to(row, goal, window) for row in rows if row["method"] == "outcome"]
    for method in STUDIES[study].methods:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        last = [successes(row, window)[-1] for row in mine]
        needed = [steps_to(row, goal, window) for row in mine]
        low, high = interval(last)
        share = share_of(iqm(needed), iqm(outcome)) if outcome else None
        first, final = (iqm([float(row["proxy"].split()[i]) for row in mine]) for i in (0, -1))
        lines.append(
            f"| {method} | {len(mine)} | {iqm(last):.2f} ({low:.2f} to {high:.2f}) | {spelled(iqm(needed))} "
            f"| {'-' if share is None else f'{share:.0%}'} | {first:.1f} | {final:.1f} "
            f"| {iqm([float(row['loop']) for row in mine]):.2f} |"
        )
    return "\n".join(lines)


def share_of(steps: float, others: float) -> float | None:
    """The quotient, where both are known and there was anything to learn."""
    return steps / others if 0 < others and max(steps, others) < float("inf") else None


def percent(share: float) -> str:
    """A share, or that there is none."""
    return f"{share:.0%}" if share < float("inf") else "never"


def spelled(steps: float) -> str:
    """A number of steps, or that it was not reached."""
    return f"{steps:,.0f}" if steps < float("inf") else "not reached"


def picture(found: dict[str, list[dict[str, str]]], path: Path) -> None:
    """Success and proxy over steps, a column for each study: IQM and interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(found), 7), layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False)
    for column, (study, rows) in enumerate(found.items()):
        for i, method in enumerate(STUDIES[study].methods):
            mine = [row for row in rows if row["method"] == method]
            for axis, what in zip(grid[:, column], ("success", "proxy")):
                curves = [[float(v) for v in row[what].split()] for row in mine]
                if not curves:
                    continue
                at = [int(v) / 1e3 for v in mine[0]["steps"].split()]
                points = list(zip(*curves))
                axis.plot(at, [iqm(p) for p in points], color=f"C{i}", label=f"{method} ({len(mine)})")
                bounds = [interval(p, resamples=300) for p in points]
                axis.fill_between(at, [b[0] for b in bounds], [b[1] for b in bounds], color=f"C{i}", alpha=0.15)
        grid[0, column].set(title=study, ylabel="success on fresh levels", ylim=(0, 1.02))
        grid[1, column].set(xlabel="thousand steps of tuning", ylabel=f"sum of {STUDIES[study].reward} in an episode")
        grid[0, column].legend(fontsize="small")
    figure.savefig(path, dpi=100)


def verdict(rows: Sequence[dict[str, str]]) -> str:
    """What ``cloned`` and ``cloned_fast`` together say of the minimum's speed: steps to the outcome's own end."""
    window = STUDIES["cloned"].window
    goal = goal_of([row for row in rows if row["study"] == "cloned"], window)

    def steps(study: str, method: str) -> float:
        mine = [row for row in rows if (row["study"], row["method"]) == (study, method)]
        return iqm([steps_to(row, goal, window) for row in mine]) if mine else float("inf")

    alone = steps("cloned", "outcome")
    parts = [f"To the {goal:.0%} that the outcome alone comes to, IQM of steps: the outcome alone {spelled(alone)}"]
    for study, what in (("cloned", "outcome + minimum"), ("cloned_fast", "outcome + minimum, twice the step size")):
        needed = steps(study, "outcome + minimum")
        share = share_of(needed, alone)
        parts.append(f"{what} {spelled(needed)}{'' if share is None else f' ({share:.0%})'}")
    return "; ".join(parts) + ". The paper has 30 % on mathematics."


def paired(rows: Sequence[dict[str, str]], method: str, window: int = 1, alone: str = "outcome") -> list[float]:
    """Steps to the success that the outcome alone ends with, over its own steps to it, by seed; not where it fell."""
    mine = {row["seed"]: row for row in rows if row["method"] == method}
    shares = []
    for row in rows:
        if row["method"] == alone and row["seed"] in mine:
            goal = successes(row, window)[-1]
            own = steps_to(row, goal, window)
            shares += [steps_to(mine[row["seed"]], goal, window) / own] if own else []
    return shares


def middle(rows: Sequence[dict[str, str]], method: str, window: int = 1) -> list[tuple[float, float]]:
    """Steps, and the IQM of success over seeds after them."""
    mine = [row for row in rows if row["method"] == method]
    points = zip(*(successes(row, window) for row in mine))
    return [(float(at), iqm(point)) for at, point in zip(mine[0]["steps"].split(), points)] if mine else []


def seed_by_seed(rows: Sequence[dict[str, str]], window: int, alone: str = "outcome") -> str:
    """What ``long`` says of the minimum's speed beside the outcome alone: by the curves of IQM, and by seed."""
    own = middle(rows, alone, window)
    goal, told = round(own[-1][1], 2), []
    first = next((at for at, success in own if success >= goal), own[-1][0])
    for method in dict.fromkeys(row["method"] for row in rows if "minimum" in row["method"]):
        shares = paired(rows, method, window, alone)
        if shares:
            needed = next((at for at, success in middle(rows, method, window) if success >= goal), float("inf"))
            each = f"IQM {percent(iqm(shares))}; {', '.join(map(percent, sorted(shares)))}"
            told.append(f"{method} {spelled(needed)} ({percent(needed / max(first, 1.0))}; by seed {each})")
    return (
        f"To the {goal:.0%} that `{alone}` comes to, steps by which the IQM over seeds is there: {alone} {first:,.0f}; "
        f"{'; '.join(told)}. By seed: to what it ends with on that seed."
    )


def best_alone(rows: Sequence[dict[str, str]], window: int) -> str:
    """The step size with which the outcome alone comes furthest, of those that as many seeds have as the first."""
    alone = [row["method"] for row in rows if row["method"].startswith("outcome") and "+" not in row["method"]]
    whole = [name for name in dict.fromkeys(alone) if alone.count(name) == alone.count("outcome")]
    return max(whole, key=lambda name: middle(rows, name, window)[-1][1])


def render(out: Path) -> None:
    """Write the tables and the picture from the cells that are there, of the largest budget of each study."""
    rows = Cells(out / "cells.csv", KEY).rows()
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    assert __doc__ is not None
    what = __doc__[__doc__.index("As where language") : __doc__.index("Measured every few")]
    parts = [f"Written by `python benchmarks/credit.py`. {facts}.", what.rsplit("\n\n", 1)[0]]
    found: dict[str, list[dict[str, str]]] = {}
    for name, study in STUDIES.items():
        mine = [row for row in rows if row["study"] == name]
        most = max((int(row["budget"]) for row in mine), default=0)
        found[name] = [row for row in mine if int(row["budget"]) == most]
        if mine:
            parts += [
                f"## {name}: {study.levels.name} in {study.limit} steps, `{study.reward}`, tuned for {most:,} steps",
                table(name, found[name]),
            ]
    if found["cloned"]:
        parts.append(verdict([*found["cloned"], *found["cloned_fast"]]))
    if any(row["method"] == "outcome" for row in found["long"]):
        window = STUDIES["long"].window
        names = dict.fromkeys(("outcome", best_alone(found["long"], window)))
        parts += [seed_by_seed(found["long"], window, name) for name in names]
    out.mkdir(parents=True, exist_ok=True)
    picture({name: some for name, some in found.items() if some}, out / "curves.png")
    (out / "README.md").write_text("\n\n".join([*parts, "![curves](curves.png)"]) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cells that are missing, then write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=None, help="steps of tuning; left out, each study's own")
    parser.add_argument("--only", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--render", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "credit")
    args = parser.parse_args(argv)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    torch.set_num_threads(1)
    cells = Cells(args.out / "cells.csv", KEY)
    for seed in range(0 if args.render else args.seeds):
        run(args.only, seed, args.budget, cells)
        render(args.out)
    render(args.out)
    print((args.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
