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
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch, fresh_seed, own_randomness
from cairn.agents.training import acting
from cairn.benchmarks.credit_steps import Chart, Lessons, StepReward, labelled, learn
from cairn.benchmarks.credit_studies import (
    DOORKEY,
    LANES,
    LESSONS,
    LEVELS,
    LIMIT,
    PLANNED,
    STUDIES,
    Levels,
    Study,
    made,
    worlds,
)
from cairn.benchmarks.credit_tables import best_alone, picture, seed_by_seed, table, verdict
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs.grid.engine import GridBatch
from cairn.envs.spaces import Tree, tree_map
from cairn.shaping import NovelD, RolloutSeat, Task, as_reward
from cairn.shaping.networks import Encoder, Whitening, mlp
from cairn.shaping.seats_env import ShapedBatch
from cairn.shaping.stretch import Stretch
from cairn.shaping.term import World

KEY = ("study", "method", "seed", "budget")

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
