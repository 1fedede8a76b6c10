"""What ``cairn bench multi --imitate`` measures: scripted teams show what they do, and MAMQL and its kin learn from it.

Who shows, who learns, one cell of the table, and the table.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from cairn.agents.data import collect
from cairn.agents.evaluation import evaluate_batch, fresh_seed
from cairn.agents.multi.mamql import MAMQL
from cairn.agents.training import acting
from cairn.benchmarks.tables import interval, iqm
from cairn.envs.batch import BatchWrapper
from cairn.envs.multi import Joint
from cairn.envs.multi.team import joint_space


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
