"""Worlds for many agents: agent-steps per second beside PettingZoo's own loop, and what teams learn in them.

    python benchmarks/multi.py --speed              # needs the extra `multi` (mpe2)
    python benchmarks/multi.py --learn              # returns over seeds; goes on where it was when started again
    python benchmarks/multi.py --learn --tasks spread --agents maddpg teamreg --seeds 3 --steps 2e5
    python benchmarks/multi.py --imitate --seeds 5  # MAMQL beside joint IQ-Learn and cloning, from demonstrations
    python benchmarks/multi.py --table              # only write the tables anew

Speed: mpe2's simple_spread in PettingZoo's loop (every agent a random action, dicts in and out) and a batch of a native
world take turns, in one process and on one thread. A ratio is of agent-steps per CPU second, which other programs
disturb less than the clock. SimpleSpread is the same world as upstream's, number for number; the other worlds stand
beside the same loop for want of one of their own.

Learn: the agents train for so many environment steps of the whole batch, and the final policy plays 100 fresh episodes
(deterministic for MADDPG and its kin, which have no dice of their own worth keeping). IPPO and MAPPO count steps over
agents, and get as many environment steps as the rest. Returns are means over the agents. CPU seconds stand beside them,
and what comes of chance and of scripted teams.

On the four sparse tasks MADDPG, TeamReg and CoachReg train five seeds side by side (``--seeds`` rounded up to fives),
all with ``multi_teams.SETTINGS``; after every 100 steps they learn from one minibatch of 256 rows, or from as
many and as large ones as ``--minibatches`` says. "Less MADDPG's" is the difference of the IQMs with its bootstrap
interval. "Guesses" is the squared error of agents' guesses of each other's actions in the final episodes, "synchrony"
the share of pairs that choose the same sub-policy. "guessing" and "masks" are TeamReg and CoachReg without what draws
the agents together: the same networks, and what they do by themselves.

Imitate: scripted pairs (Gems: both to the purple gem that is nearest for the farther one, or each to its own; the
kitchen: one brings onions, one serves, and one choice in ten of either is by chance; the intersection, with the extra
``bench``: drivers who give way) show so many episodes, and who learned from them plays fresh ones: actions drawn from
its policy, as in the paper's code ("greedy": the likeliest). "Of the way" is (return - random) / (expert - random),
"steps" those lived in the world itself. The reward that was recovered is correlated with the task's own (Pearson) over
steps that are half of experts and half of chance, agent by agent (a joint critic's with the sum). Cloning has no
reward: its logits stand in for Q.
"as published" is cloning with the slip of the paper's code, whose networks are shown the very choice that they are to
predict, and zeros in its place when they act.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from cairn.agents.evaluation import evaluate_batch, fresh_seed
from cairn.agents.table import agent_class
from cairn.agents.training import acting
from cairn.benchmarks.multi_imitate import METHODS, SHOWS, imitate_cell, imitate_table
from cairn.benchmarks.multi_teams import SCRIPTS, SIDE, TEAMS, teams_cell, to_each_its_own
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine

SPEED = ("SimpleSpread", "Spread", "Bounce", "Compromise", "Chase", "Gems", "Overcooked-CrampedRoom")
TASKS = {"simple_spread": "SimpleSpread", "spread": "Spread", "bounce": "Bounce", "compromise": "Compromise"}
TASKS["chase"] = "Chase"
NOBODY = ("random", "scripted")  # who learns nothing: what returns are to be read beside
AGENTS = ("ippo", "mappo", *TEAMS, *NOBODY)
DISCRETE = ("ippo", "mappo", *NOBODY)  # on simple_spread, whose actions can be either
# Many lanes, rollouts of whole episodes, and a horizon like theirs; chosen on one seed of simple_spread.
ON_POLICY: dict[str, Any] = {"n_steps": 25, "batch_size": 1920, "n_epochs": 4, "gamma": 0.95}


# ---- speed ---------------------------------------------------------------------------------------------


def pettingzoo_loop(cycles: int) -> Callable[[], int]:
    """A function that lives ``cycles`` steps of upstream's simple_spread and says how many agent-steps those were."""
    try:
        from mpe2 import simple_spread_v3
    except ImportError as error:
        raise SystemExit("--speed compares with mpe2: pip install 'cairn-rl[multi]'") from error
    env = simple_spread_v3.parallel_env(N=3, max_cycles=25)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 5, (997, 3)).tolist()

    def live() -> int:
        lived = 0
        for t in range(cycles):
            if not env.agents:
                env.reset()
            lived += len(env.agents)
            env.step(dict(zip(env.agents, actions[t % 997])))
        return lived

    return live


def native_loop(name: str, lanes: int, cycles: int) -> Callable[[], int]:
    """The same for a batch of a native world."""
    envs: Any = gym.make_vec(f"cairn/{name}-v0", num_envs=lanes, device="cpu")
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = [torch.as_tensor(envs.action_space.sample()) for _ in range(8)]

    def live() -> int:
        for t in range(cycles):
            envs.step(actions[t % 8])
        return cycles * lanes * len(envs.agents)

    return live


def speed(args: argparse.Namespace, cells: Cells) -> None:
    """Measure what is missing of the speed table."""
    torch.set_num_threads(1)
    for name in SPEED:
        key = {"world": name, "environments": args.envs}
        todo = [r for r in range(args.rounds) if not cells.done({**key, "round": r})]
        if not todo:
            continue
        loops = pettingzoo_loop(1000), native_loop(name, args.envs, 40)
        for live in loops:
            live()  # warm up
        for turn in todo:
            rates = []
            for live in loops:
                wall, cpu = time.perf_counter(), time.process_time()
                lived = live()
                rates += [lived / (time.process_time() - cpu), lived / (time.perf_counter() - wall)]
            row = {**key, "round": turn}
            names = ("pettingzoo_per_cpu_s", "pettingzoo_per_s", "native_per_cpu_s", "native_per_s")
            cells.add({**row, **{n: round(rate) for n, rate in zip(names, rates)}})
            print(f"{name:24} {rates[0]:10,.0f} PettingZoo, {rates[2]:12,.0f} native, {rates[2] / rates[0]:6.1f} x")


def speed_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The speed table in Markdown: medians over rounds."""
    lines = [
        "| world | environments | PettingZoo's loop (simple_spread) | native | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for world, lanes in dict.fromkeys((row["world"], row["environments"]) for row in rows):
        mine = [row for row in rows if (row["world"], row["environments"]) == (world, lanes)]
        loop, native = (
            statistics.median(float(row[k]) for row in mine) for k in ("pettingzoo_per_cpu_s", "native_per_cpu_s")
        )
        ratio = statistics.median(float(row["native_per_cpu_s"]) / float(row["pettingzoo_per_cpu_s"]) for row in mine)
        lines.append(f"| {world} | {int(lanes):,} | {loop:,.0f} | {native:,.0f} | {ratio:.0f} x |")
    return "\n".join(lines)


# ---- learn ---------------------------------------------------------------------------------------------


def scripted_spread(obs: Tensor) -> Tensor:
    """Simple_spread: each of three agents to its own landmark, by the shortest distances in all; actions ``[N, 3]``.

    Args:
        obs: What the agents see, ``[N, 3, 18]``: speed, place, where three landmarks are from here, and the rest.
    """
    speed, landmarks = obs[..., :2], obs[..., 4:10].reshape(*obs.shape[:-1], 3, 2)
    way = to_each_its_own(landmarks) - 0.3 * speed
    x, y = way.unbind(-1)
    across = torch.where(x > 0, 2, 1)
    along = torch.where(y > 0, 4, 3)
    push = torch.where(x.abs() > y.abs(), across, along)
    return torch.where(way.abs().amax(-1) < 0.05, 0, push)


def learn_cell(task: str, agent: str, seed: int, steps: int) -> dict[str, object]:
    """One seed of one agent on one task."""
    name = f"cairn/{TASKS[task]}-v0"
    on_policy = agent in ("ippo", "mappo")
    kwargs: dict[str, Any] = {"continuous": True} if task == "simple_spread" and agent not in DISCRETE else {}
    envs: Any = gym.make_vec(name, num_envs=256 if on_policy else 16, device="cpu", **kwargs)
    trial: Any = gym.make_vec(name, num_envs=100, device="cpu", **kwargs)
    cpu = time.process_time()
    curve: list[tuple[int, float]] = []
    if agent in NOBODY:
        draws = torch.Generator().manual_seed(seed)
        chance = lambda obs: random_actions(trial, draws)  # noqa: E731
        script = scripted_spread if task == "simple_spread" else SCRIPTS[task]
        last = evaluate_batch(script if agent == "scripted" else chance, trial, 100, fresh_seed(seed, "multi"))
        return _row(task, agent, seed, steps, last, time.process_time() - cpu, curve, {})
    wall = time.perf_counter()
    who, own = TEAMS.get(agent, (agent, ON_POLICY))
    model = agent_class(who)("MlpPolicy", envs, seed=seed, **own)
    goal, parts = steps * len(envs.agents) if on_policy else steps, 10
    for part in range(parts):
        model.learn(max(goal // parts, 1), reset_num_timesteps=part == 0)
        fresh = fresh_seed(seed, "multi", part)
        last = evaluate_batch(acting(model, not on_policy), trial, 100, fresh)
        curve.append((model.num_timesteps // (len(envs.agents) if on_policy else 1), last.return_mean))
        seconds = time.perf_counter() - wall
        told = f"{curve[-1][0]:9,} steps, return {last.return_mean:8.2f}, {seconds:6.0f} s "
        print(f"\r{task} {agent} seed {seed}: {told}", end="", flush=True)
    print(flush=True)
    notes = {k.removeprefix("train/"): float(v) for k, v in getattr(model, "_losses", {}).items()}
    return _row(task, agent, seed, steps, last, time.process_time() - cpu, curve, notes)


def random_actions(envs: Any, draws: torch.Generator) -> Tensor:
    """Actions by chance for every agent of every lane, ``[N, A, ...]``."""
    space, shape = envs.agent_action_space, envs.action_space.shape
    if isinstance(space, spaces.Discrete):
        return torch.randint(int(space.n), shape, generator=draws)
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return low + (high - low) * torch.rand(shape, generator=draws)


def _row(
    task: str, agent: str, seed: int, steps: int, last: Any, cpu: float, curve: Sequence[tuple[int, float]],
    notes: Mapping[str, float],
) -> dict[str, object]:  # fmt: skip
    return {
        "task": task, "agent": agent, "seed": seed, "steps": steps, "minibatches": "",
        "return": round(last.return_mean, 4),
        "success": "" if last.success is None else last.success, "cpu_seconds": round(cpu, 1),
        "team_error": notes.get("team_error", ""), "synchrony": notes.get("synchrony", ""),
        "curve": " ".join(f"{step}:{value:.3f}" for step, value in curve),
    }  # fmt: skip


def learn(args: argparse.Namespace, cells: Cells) -> None:
    """Run the cells that are missing: the first seed of everything, then the second ..."""
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        for task in args.tasks:
            for agent in args.agents:
                side = agent in TEAMS and task in SCRIPTS
                key = {"task": task, "agent": agent, "seed": seed, "steps": int(args.steps),
                       "minibatches": args.minibatches if side else ""}  # fmt: skip
                if cells.done(key):
                    continue
                if side:
                    first = seed // SIDE * SIDE
                    rows = teams_cell(task, TASKS[task], agent, first, int(args.steps), args.minibatches)
                else:
                    rows = [learn_cell(task, agent, seed, int(args.steps))]
                for row in rows:
                    if not cells.done(row):
                        cells.add(row)
                render(args.out)


def learn_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The table of returns in Markdown: IQM over seeds with its interval, and CPU seconds of a seed."""
    lines = [
        "| task | agent | steps | minibatches | seeds | return, IQM | 95 % interval | less MADDPG's | success "
        "| guesses | synchrony | CPU s a seed |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = ("task", "agent", "steps", "minibatches")
    cells = dict.fromkeys(tuple(row[name] for name in names) for row in rows)
    order = {task: k for k, task in enumerate(TASKS)}
    for cell in sorted(cells, key=lambda c: (order[c[0]], AGENTS.index(c[1]), int(c[2]), c[3])):
        task, agent, steps, minibatches = cell
        mine = [row for row in rows if tuple(row[name] for name in names) == cell]
        values = [float(row["return"]) for row in mine]
        low, high = interval(values)
        cpu = statistics.median(float(row["cpu_seconds"]) for row in mine)
        beside = (task, "maddpg", steps, minibatches)
        base = [float(row["return"]) for row in rows if tuple(row[name] for name in names) == beside]
        less = "" if agent in ("maddpg", *NOBODY) or not base else difference(values, base)
        success, error, same = (_mean(row[name] for row in mine) for name in ("success", "team_error", "synchrony"))
        lived = "" if agent in NOBODY else f"{int(steps):,}"
        lines.append(
            f"| {task} | {agent} | {lived} | {minibatches} | {len(mine)} | {iqm(values):.2f} | {low:.2f} to {high:.2f} "
            f"| {less} | {success} | {error} | {same} | {cpu:,.0f} |"
        )
    return "\n".join(lines)


def _mean(texts: Iterable[str]) -> str:
    """IQM of the numbers among ``texts``."""
    values = [float(text) for text in texts if text != ""]
    return f"{iqm(values):.2f}" if values else ""


def difference(values: Sequence[float], base: Sequence[float], resamples: int = 2000) -> str:
    """IQM of ``values`` less that of ``base``, with the percentile bootstrap interval: both are drawn again."""
    draws = np.random.default_rng(0)
    found = sorted(
        iqm(draws.choice(values, len(values)).tolist()) - iqm(draws.choice(base, len(base)).tolist())
        for _ in range(resamples)
    )
    low, high = found[int(0.025 * resamples)], found[int(0.975 * resamples)]
    return f"{iqm(values) - iqm(base):+.2f} ({low:+.2f} to {high:+.2f})"


# ---- imitate -------------------------------------------------------------------------------------------


def imitate(args: argparse.Namespace, cells: Cells) -> None:
    """Run the cells that are missing."""
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        for world in args.worlds:
            for method in args.methods:
                key = {"world": world, "method": method, "seed": seed, "updates": args.updates, "share": args.share}
                if not cells.done(key):
                    row = imitate_cell(world, method, seed, args.updates, args.share)
                    cells.add(row)
                    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                    render(args.out)


def machine_of() -> dict[str, str]:
    """The machine, and the versions of what is compared with."""
    facts = machine()
    for name in ("pettingzoo", "mpe2"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "absent"
    return facts


def render(out: Path) -> None:
    """Write the tables with the machine that made them."""
    text = ["# Many agents", "", ", ".join(f"{name} {value}" for name, value in machine_of().items()), ""]
    for name, table in (("speed", speed_table), ("learn", learn_table), ("imitate", imitate_table)):
        path = out / f"{name}.csv"
        if path.exists():
            text += [f"## {name}", "", table(Cells(path, ["round"] if name == "speed" else ["seed"]).rows()), ""]
    (out / "table.md").write_text("\n".join(text), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--imitate", action="store_true")
    parser.add_argument("--updates", type=int, default=1000, help="of an imitation run")
    parser.add_argument("--share", type=float, default=1.0, help="of the episodes that an imitation run is shown")
    parser.add_argument("--worlds", nargs="+", choices=list(SHOWS), default=list(SHOWS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--envs", type=int, default=4096, help="environments of a native batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=float, default=1e6, help="environment steps of a learning run")
    parser.add_argument("--minibatches", default="1x256", help="after every 100 steps of a sparse task, NUMBERxROWS")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "multi")
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", args.minibatches):
        parser.error(f"--minibatches {args.minibatches}: a number of minibatches and of rows, as in 4x256")
    if not (args.speed or args.learn or args.imitate or args.table):
        parser.error("say what to do: --speed, --learn, --imitate or --table")
    args.out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in machine_of().items()))
    if args.speed:
        speed(args, Cells(args.out / "speed.csv", ["world", "environments", "round"]))
    if args.learn:
        learn(args, Cells(args.out / "learn.csv", ["task", "agent", "seed", "steps", "minibatches"]))
    if args.imitate:
        imitate(args, Cells(args.out / "imitate.csv", ["world", "method", "seed", "updates", "share"]))
    render(args.out)
    print((args.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
