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
agents, and get as many environment steps as the rest. Returns are means over the agents. CPU seconds stand beside them.

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
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from cairn.agents.data import collect
from cairn.agents.evaluation import evaluate_batch, fresh_seed
from cairn.agents.multi.mamql import MAMQL
from cairn.agents.table import agent_class
from cairn.agents.training import acting
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine
from cairn.envs.batch import BatchWrapper
from cairn.envs.multi import Joint
from cairn.envs.multi.team import joint_space

SPEED = ("SimpleSpread", "Spread", "Bounce", "Compromise", "Chase", "Gems", "Overcooked-CrampedRoom")
TASKS = {"simple_spread": "SimpleSpread", "spread": "Spread", "bounce": "Bounce", "compromise": "Compromise"}
TASKS["chase"] = "Chase"
AGENTS = ("ippo", "mappo", "maddpg", "teamreg", "coachreg")
ON_POLICY = ("ippo", "mappo")


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


def learn_cell(task: str, agent: str, seed: int, steps: int) -> dict[str, object]:
    """One seed of one agent on one task."""
    name = f"cairn/{TASKS[task]}-v0"
    on_policy = agent in ON_POLICY
    kwargs: dict[str, Any] = {} if on_policy or task != "simple_spread" else {"continuous": True}
    lanes = 64 if on_policy else 16
    envs: Any = gym.make_vec(name, num_envs=lanes, device="cpu", **kwargs)
    trial: Any = gym.make_vec(name, num_envs=100, device="cpu", **kwargs)
    wall, cpu = time.perf_counter(), time.process_time()
    model = agent_class(agent)("MlpPolicy", envs, seed=seed)
    goal = steps * len(envs.agents) if on_policy else steps
    parts, curve, last = 10, [], None
    for part in range(parts):
        model.learn(max(goal // parts, 1), reset_num_timesteps=part == 0)
        fresh = fresh_seed(seed, "multi", part)
        last = evaluate_batch(acting(model, not on_policy), trial, 100, fresh)
        curve.append((model.num_timesteps // (len(envs.agents) if on_policy else 1), last.return_mean))
        seconds = time.perf_counter() - wall
        told = f"{curve[-1][0]:9,} steps, return {last.return_mean:8.2f}, {seconds:6.0f} s "
        print(f"\r{task} {agent} seed {seed}: {told}", end="", flush=True)
    print(flush=True)
    assert last is not None
    notes = {k.removeprefix("train/"): float(v) for k, v in getattr(model, "_losses", {}).items()}
    return {
        "task": task, "agent": agent, "seed": seed, "steps": steps, "return": round(last.return_mean, 4),
        "success": "" if last.success is None else last.success, "cpu_seconds": round(time.process_time() - cpu, 1),
        "team_error": notes.get("team_error", ""), "synchrony": notes.get("synchrony", ""),
        "curve": " ".join(f"{step}:{value:.3f}" for step, value in curve),
    }  # fmt: skip


def learn(args: argparse.Namespace, cells: Cells) -> None:
    """Run the cells that are missing: the first seed of everything, then the second ..."""
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        for task in args.tasks:
            for agent in args.agents:
                key = {"task": task, "agent": agent, "seed": seed, "steps": int(args.steps)}
                if not cells.done(key):
                    cells.add(learn_cell(task, agent, seed, int(args.steps)))
                    render(args.out)


def learn_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The table of returns in Markdown: IQM over seeds with its interval, and CPU seconds of a seed."""
    lines = [
        "| task | agent | steps | seeds | return, IQM | 95 % interval | CPU s a seed |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    cells = dict.fromkeys((row["task"], row["agent"], row["steps"]) for row in rows)
    order = {task: k for k, task in enumerate(TASKS)}
    for task, agent, steps in sorted(cells, key=lambda c: (order[c[0]], AGENTS.index(c[1]), int(c[2]))):
        mine = [row for row in rows if (row["task"], row["agent"], row["steps"]) == (task, agent, steps)]
        values = [float(row["return"]) for row in mine]
        low, high = interval(values)
        cpu = statistics.median(float(row["cpu_seconds"]) for row in mine)
        lines.append(
            f"| {task} | {agent} | {int(steps):,} | {len(mine)} | {iqm(values):.2f} | {low:.2f} to {high:.2f} "
            f"| {cpu:,.0f} |"
        )
    return "\n".join(lines)


# ---- imitate -------------------------------------------------------------------------------------------


def gems_pair(obs: torch.Tensor) -> torch.Tensor:
    """Both agents to the purple gem whose farther agent is nearest, where that is within 9 steps; else each to its own.

    Args:
        obs: Gems' ``"places"`` view, ``[N, 2, 22]``.
    """
    cells = (obs * 14).round()
    me, other, own = (obs[..., :2] + 1) * 7, cells[..., 2:4], cells[..., 4:6]
    purple = cells[..., 16:22].reshape(*cells.shape[:-1], 3, 2)
    far = torch.maximum(purple.abs().sum(-1), (purple - other[..., None, :]).abs().sum(-1))
    place = (me[..., None, :] + purple).round()
    order = far * 1000 + place[..., 0] * 15 + place[..., 1]  # both agents break ties alike
    best = order.argmin(-1, keepdim=True)
    goal = purple.gather(2, best[..., None].expand(*best.shape, 2))[..., 0, :]
    goal = torch.where(far.gather(-1, best) <= 9, goal, own)
    dx, dy = goal.unbind(-1)
    down = torch.where(dy > 0, 0, torch.where(dy < 0, 2, 4))
    return torch.where(dx > 0, 1, torch.where(dx < 0, 3, down))


def kitchen_pair(obs: torch.Tensor) -> torch.Tensor:
    """Cramped room: agent 0 brings onions from the left until the pot is full, agent 1 takes a dish and serves.

    Args:
        obs: The kitchen's planes, ``[N, 2, 420]``.
    """
    planes = obs.reshape(*obs.shape[:-1], 21, 20).float()
    at, way = planes[:, :, 0].argmax(-1), planes[:, :, 2:6].sum(-1).argmax(-1)
    held = (planes[:, :, 18:21] * planes[:, :, :1]).sum(-1)  # onion, dish, soup in one's own hands
    full, ready = planes[:, 0, 15].sum(-1) == 3, planes[:, 0, 17].sum(-1) > 0
    out = torch.full(at.shape, 4)
    n, s, e, w = range(4)
    # Cells: 6 7 8 above, 11 12 13 below; onions left of 6, the pot above 7, dishes below 11, serving below 13.
    for cook in range(2):
        here = at[:, cook]
        onion, dish, soup = held[:, cook].bool().unbind(-1)
        goal, look = torch.full_like(here, 6), torch.full_like(here, w)
        if cook == 0:
            goal, look = torch.where(onion, 7, goal), torch.where(onion, n, look)
            rest = onion & full  # nothing to bring: out of the way
            goal = torch.where(rest, 6, goal)
            leave = ~onion & full
            goal, look = torch.where(leave, 6, goal), torch.where(leave, n, look)
            rest = rest | leave
        else:
            goal = torch.where(soup, 13, torch.where(dish, torch.where(ready, 7, 8), torch.where(full, 11, 13)))
            look = torch.where(soup, s, torch.where(dish, n, torch.where(full, s, e)))
            rest = (dish & ~ready) | (~dish & ~soup & ~full)
        arrived = here == goal
        turned = way[:, cook] == look
        x, y, gx, gy = here % 5, here // 5, goal % 5, goal // 5
        along = torch.where(gx > x, e, torch.where(gx < x, w, torch.where(gy > y, s, n)))
        if cook == 1:  # round by the lower row
            low = (x != gx) & (y == 1)
            along = torch.where(low, s, along)
        act = torch.where(arrived, torch.where(rest, 4, torch.where(turned, 5, look)), along)
        out[:, cook] = act
    return out


Act = Callable[[torch.Tensor], torch.Tensor]


class Show(NamedTuple):
    """Who shows what in a world, and at what scale it is played."""

    env: str
    pair: Callable[[Any], Act]
    """The experts of a batch."""
    episodes: int
    """That they show."""
    chance: float
    """The share of their choices that are by chance."""
    lanes: int = 8
    """To learn in."""
    trials: int = 100
    """Fresh episodes in the end."""


def crossing_pair(team: Any) -> Act:
    """Drivers who give way; they look at the road itself."""
    from cairn.envs.multi.intersection import give_way

    drive: Act = give_way(team.unwrapped)
    return drive


SHOWS = {
    "Gems": Show("cairn/Gems-v0", lambda team: gems_pair, 1000, 0.0),
    "Kitchen": Show("cairn/Overcooked-CrampedRoom-v0", lambda team: kitchen_pair, 4, 0.1),
    "Intersection": Show("cairn/Intersection-v0", crossing_pair, 50, 0.0, lanes=1, trials=20),
}

AGREED = {"online": False, "values": "expert", "alpha": 10.0}
"""The values on the demonstrations' own states: the likelihood, held together by the square of the reward."""
METHODS: dict[str, dict[str, Any]] = {
    "MAMQL, online": {},
    "MAMQL, offline": {"online": False},
    "MAMQL, offline, values of demonstrations": AGREED,
    "joint IQ-Learn, online": {"method": "joint"},
    "joint IQ-Learn, offline, values of demonstrations": {"method": "joint", **AGREED},
    "cloning": {"method": "clone"},
    "cloning, as published": {"method": "clone"},
}


class Told(BatchWrapper):
    """Room for the agents' choices beside what they see; nobody who acts is told any."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        seen, n = env.agent_observation_space, int(env.agent_action_space.n)
        low, high = (np.concatenate([np.ravel(edge), np.full(n, k)]) for k, edge in enumerate((seen.low, seen.high)))
        self.agents, self.agents_leave, self.agent_action_space = env.agents, False, env.agent_action_space
        self.agent_observation_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.single_observation_space = joint_space(self.agent_observation_space, len(env.agents))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.choices = n

    def _widen(self, obs: torch.Tensor) -> torch.Tensor:
        return torch.cat([obs.float(), obs.new_zeros(*obs.shape[:2], self.choices, dtype=torch.float32)], -1)

    def reset(self, **kwargs: Any) -> Any:
        """Begin."""
        obs, info = self.env.reset(**kwargs)
        return self._widen(obs), info

    def step(self, actions: Any) -> Any:
        """Step."""
        obs, *rest, info = self.env.step(actions)
        return self._widen(obs), *rest, {**info, "final_obs": self._widen(info["final_obs"])}


def noisy(act: Act, share: float | torch.Tensor, choices: int) -> Act:
    """``act``, of whose choices a share (one number, or one for each lane) is by chance."""

    def drawn(obs: torch.Tensor) -> torch.Tensor:
        wanted = act(obs)
        level = torch.as_tensor(share).expand(len(wanted))[:, None]
        return torch.where(torch.rand(wanted.shape) < level, torch.randint(choices, wanted.shape), wanted)

    return drawn


def lived(act: Act, team: Any, steps: int, seed: int) -> dict[str, torch.Tensor]:
    """``steps`` steps of every lane: what was seen, done and paid, ``[steps N, ...]``."""
    torch.manual_seed(seed)
    obs, _ = team.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action, before = act(obs), obs.clone()
        obs, reward, terminated, truncated, info = team.step(action)
        done = terminated | truncated
        after = torch.where(done[:, None, None], info["final_obs"], obs)
        rows.append((before, action, after, terminated.clone(), reward.clone()))
    names = ("obs", "action", "next_obs", "terminated", "reward")
    return dict(zip(names, (torch.cat(column) for column in zip(*rows))))


def alike(model: MAMQL, x: Mapping[str, torch.Tensor]) -> float:
    """The mean Pearson correlation of the model's rewards and the task's; 0 where nothing varies."""
    with torch.no_grad():
        found = model.recovered(x["obs"], x["action"], x["next_obs"], x["terminated"])
    real = x["reward"] if found.shape[1] > 1 else x["reward"].sum(1, keepdim=True)
    return float(np.nan_to_num(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found.t(), real.t())])))


def imitate_cell(world: str, method: str, seed: int, updates: int, share: float) -> dict[str, Any]:
    """One seed of one method in one world."""
    show, told = SHOWS[world], method.endswith("as published")
    episodes = max(round(share * show.episodes), 1)

    def team(lanes: int) -> Any:
        made: Any = gym.make_vec(show.env, num_envs=lanes, device="cpu", max_episode_steps=150)
        return Told(made) if told else made

    trial = team(show.trials)
    choices, width = int(trial.agent_action_space.n), trial.agent_observation_space.shape[0]

    def pair(team: Any, chance: float | torch.Tensor) -> Act:
        expert = show.pair(team)
        return noisy((lambda obs: expert(obs[..., : width - choices])) if told else expert, chance, choices)

    shown = team(min(episodes, 50))
    act = pair(shown, show.chance)
    demos = collect(lambda obs, info: act(obs), Joint(shown), episodes, seed=seed)
    states: Any = demos.states
    if told:  # the last observation of an episode has no choice to tell
        at = torch.arange(len(demos)) + demos.episode
        states[at, :, -choices:] = torch.nn.functional.one_hot(demos.action, choices).float()
    cpu = time.process_time()
    settings = {**METHODS[method], "train_freq": 1, "gradient_steps": 1}
    model = MAMQL("MlpPolicy", team(show.lanes), demos, seed=seed, **settings).learn(show.lanes * updates)
    cpu = time.process_time() - cpu
    fresh = fresh_seed(seed, "imitate")
    played, greedy, best, worst = (
        evaluate_batch(act, trial, show.trials, fresh).return_mean
        for act in (acting(model, False), acting(model, True), pair(trial, 0.0), pair(trial, 1.0))
    )
    judge = team(20)
    half = lived(pair(judge, torch.arange(20) % 2.0), judge, trial.max_steps, fresh_seed(seed, "judge"))
    return {
        "world": world, "method": method, "seed": seed, "updates": updates, "share": share,
        "rows": len(demos), "return": round(played, 4), "greedy": round(greedy, 4), "expert": round(best, 4),
        "random": round(worst, 4), "correlation": round(alike(model, half), 4),
        "steps": model.replay_buffer.clock * show.lanes, "cpu_seconds": round(cpu, 1),
    }  # fmt: skip


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


def imitate_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns, share of the way from random to expert, and what the recovered reward is worth, in Markdown."""
    lines = [
        "| world | method | rows | updates | seeds | return, IQM | 95 % interval | greedy | expert | random "
        "| of the way | correlation | steps | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    keys = ("world", "method", "updates", "share")
    numbers = ("return", "greedy", "expert", "random", "correlation", "steps", "cpu_seconds", "rows")
    order = {name: k for k, name in enumerate((*SHOWS, *METHODS))}
    cells = dict.fromkeys(tuple(row[k] for k in keys) for row in rows)
    for cell in sorted(cells, key=lambda c: (order[c[0]], -float(c[3]), int(c[2]), order[c[1]])):
        mine = [r for r in rows if tuple(r[k] for k in keys) == cell]
        world, method, updates, _ = cell
        values = {k: [float(r[k]) for r in mine] for k in numbers}
        got, greedy, expert, chance, same = (iqm(values[k]) for k in numbers[:5])
        low, high = interval(values["return"])
        way = (got - chance) / (expert - chance)
        lines.append(
            f"| {world} | {method} | {statistics.median(values['rows']):,.0f} | {int(updates):,} | {len(mine)} "
            f"| {got:.2f} | {low:.2f} to {high:.2f} | {greedy:.2f} | {expert:.2f} | {chance:.2f} | {way:.0%} "
            f"| {same:.2f} | {max(values['steps']):,.0f} | {statistics.median(values['cpu_seconds']):,.0f} |"
        )
    return "\n".join(lines)


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
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "multi")
    args = parser.parse_args(argv)
    if not (args.speed or args.learn or args.imitate or args.table):
        parser.error("say what to do: --speed, --learn, --imitate or --table")
    args.out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in machine_of().items()))
    if args.speed:
        speed(args, Cells(args.out / "speed.csv", ["world", "environments", "round"]))
    if args.learn:
        learn(args, Cells(args.out / "learn.csv", ["task", "agent", "seed", "steps"]))
    if args.imitate:
        imitate(args, Cells(args.out / "imitate.csv", ["world", "method", "seed", "updates", "share"]))
    render(args.out)
    print((args.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
