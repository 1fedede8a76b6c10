"""The particle tasks against plain loops over bodies, upstream's simple_spread, and numbers worked out by hand."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.grid.stream import Stream, episode_key

DT = 0.1


class Loop:
    """One episode of one lane, body by body in Python floats."""

    def __init__(self, name: str, seed: int, lane: int, episode: int) -> None:
        self.name, self.key, self.t = name, episode_key(seed, lane, episode), 0
        self.clock = self.hit = 0.0
        setup: Any = getattr(self, f"begin_{name}")
        setup()
        self.vel = [[0.0, 0.0] for _ in self.pos]

    def draw(self, first: int, count: int) -> list[float]:
        stream = Stream(self.key, first - 1)
        return [2 * stream.random() - 1 for _ in range(count)]

    def points(self, first: int, count: int) -> list[list[float]]:
        numbers = self.draw(first, 2 * count)
        return [numbers[2 * k : 2 * k + 2] for k in range(count)]

    def begin_SimpleSpread(self) -> None:
        self.agents, self.pos = 3, self.points(1, 6)

    def begin_Spread(self) -> None:
        self.agents, self.pos = 3, self.points(1, 6)

    def linked(self, reach: float) -> list[list[float]]:
        here = self.draw(1, 2)
        for k in range(12):
            a, b = self.draw(3 + 2 * k, 2)
            far = math.sqrt((b + 1) / 2) * reach
            there = [here[0] + far * math.cos(a * math.pi), here[1] + far * math.sin(a * math.pi)]
            if max(map(abs, there)) <= 1:
                break
        return [here, [min(max(x, -1), 1) for x in there]]

    def begin_Compromise(self) -> None:
        self.agents, self.pos = 2, self.linked(0.3) + self.points(27, 2)
        self.reached = [0, 0]

    def begin_Chase(self) -> None:
        hunters = [[0.8 * x for x in point] for point in self.points(1, 2)]
        for k in range(8):
            prey = self.points(5 + 2 * k, 1)[0]
            if all(math.dist(prey, h) >= 1.5 * 0.09 for h in hunters):
                break
        self.agents, self.pos = 2, [*hunters, prey]

    def begin_Bounce(self) -> None:
        x = self.draw(27, 2)
        self.agents, self.pos = 2, [*self.linked(0.5), [x[0], 0.85], [x[1], 0.85]]

    # ---- a step --------------------------------------------------------------------------------------------

    def push(self, force: list[list[float]], i: int, j: int, reach: float) -> None:
        far = math.dist(self.pos[i], self.pos[j])
        x = -(far - reach) / 1e-3
        depth = (x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))) * 1e-3
        for k in range(2):
            f = 100 * (self.pos[i][k] - self.pos[j][k]) / far * depth
            force[i][k] += f
            force[j][k] -= f

    def spring(self, force: list[list[float]], reach: float, stiffness: float) -> None:
        if math.dist(self.pos[0], self.pos[1]) > reach:
            for k in range(2):
                f = stiffness * (self.pos[1][k] - self.pos[0][k])
                force[0][k] += f
                force[1][k] -= f

    def drive(self, i: int, force: list[float], top: float = 1.0) -> None:
        vel = [0.9 * self.vel[i][k] + DT * force[k] for k in range(2)]
        speed = math.hypot(*vel)
        if speed > top:
            vel = [v / speed * top for v in vel]
        self.vel[i] = vel
        self.pos[i] = [min(max(self.pos[i][k] + DT * vel[k], -1), 1) for k in range(2)]

    def step(self, action: Any) -> tuple[list[float], bool]:
        move: Any = getattr(self, f"step_{self.name}")
        reward, over = move(action)
        self.t += 1
        return reward, over

    def step_SimpleSpread(self, action: Any) -> tuple[list[float], bool]:
        ways = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
        force = [[5.0 * x for x in ways[int(a)]] for a in action]
        for i in range(3):
            for j in range(i + 1, 3):
                self.push(force, i, j, 0.3)
        for i in range(3):
            self.pos[i] = [self.pos[i][k] + DT * self.vel[i][k] for k in range(2)]
            self.vel[i] = [0.75 * self.vel[i][k] + DT * force[i][k] for k in range(2)]
        far = -sum(min(math.dist(self.pos[a], self.pos[m]) for a in range(3)) for m in range(3, 6))
        hits = [sum(i != j and math.dist(self.pos[i], self.pos[j]) < 0.3 for j in range(3)) for i in range(3)]
        return [0.5 * far - 0.5 * hit for hit in hits], False

    def step_Spread(self, action: Any) -> tuple[list[float], bool]:
        force = [list(map(float, a)) for a in action]
        for i in range(3):
            for j in range(i + 1, 3):
                self.push(force, i, j, 0.1)
        for i in range(3):
            self.drive(i, force[i])
        covered = sum(any(math.dist(self.pos[a], self.pos[m]) < 0.1 for a in range(3)) for m in range(3, 6))
        hits = sum(math.dist(self.pos[i], self.pos[j]) < 0.1 for i in range(3) for j in range(i))
        return [float(covered - hits)] * 3, False

    def step_Compromise(self, action: Any) -> tuple[list[float], bool]:
        force = [list(map(float, a)) for a in action]
        self.spring(force, 0.3, 10.0)
        for i in range(2):
            self.drive(i, force[i])
        reward, fresh = [0.0, 0.0], self.points(31 + 4 * self.t, 2)
        for i in range(2):
            if math.dist(self.pos[i], self.pos[2 + i]) < 0.1:
                reward[i] = 10.0
                self.pos[2 + i] = fresh[i]
                self.reached[i] += 1
        return reward, False

    def step_Chase(self, action: Any) -> tuple[list[float], bool]:
        eps, (x, y) = 1e-5, self.pos[2]
        run = [0.0, 0.0]
        for i in range(2):
            far = math.dist(self.pos[2], self.pos[i])
            for k in range(2):
                run[k] += (self.pos[2][k] - self.pos[i][k]) * (1 + eps) / (far + eps) ** 3
        for k, here in enumerate((x, y)):
            for wall in (1 + eps, -1 - eps):
                gap = here - wall
                run[k] += math.copysign(1, gap) / (gap + eps) ** 2
        long = math.hypot(*run)
        if long >= 1:
            run = [f / long for f in run]
        force = [*(list(map(float, a)) for a in action), [1.5 * f for f in run]]
        for i, j, reach in ((0, 1, 0.1), (0, 2, 0.09), (1, 2, 0.09)):
            self.push(force, i, j, reach)
        for i in range(3):
            self.drive(i, force[i], 1.5 if i == 2 else 1.0)
        return [10.0 * sum(math.dist(self.pos[i], self.pos[2]) < 0.09 for i in range(2))] * 2, False

    def step_Bounce(self, action: Any) -> tuple[list[float], bool]:
        force = [list(map(float, a)) for a in action]
        self.spring(force, 0.5, 2.0)
        (ax, ay), (bx, by), ball = self.pos[0], self.pos[1], self.pos[2]
        long = math.dist(self.pos[0], self.pos[1])
        bounced = math.dist(ball, self.pos[0]) + math.dist(ball, self.pos[1]) <= long + 0.005
        v = self.vel[2]
        if bounced:
            pace, n = math.hypot(*v), ((by - ay) / long, -(bx - ax) / long)
            way = [x / (pace + 1e-5) for x in v]
            dot = way[0] * n[0] + way[1] * n[1]
            v = [pace * (way[k] - 2 * dot * n[k]) for k in range(2)]
        self.pos[2] = [ball[k] + DT * v[k] for k in range(2)]
        for i in range(2):
            self.drive(i, force[i])
            self.pos[i][1] = min(self.pos[i][1], 0.5)
        self.vel[2], reward, self.clock = v, 0.0, (self.t + 1) / 100
        if bounced:
            reward = 0.1 + self.leaves(self.pos[2], v) + (10 if self.through(self.pos[2], v, self.pos[3]) else 0)
            self.hit = float(reward > 10)
        elif self.t + 1 == 50:
            self.vel[2] = [0.0, -0.5]
        return [reward] * 2, bounced

    @staticmethod
    def leaves(at: list[float], v: list[float]) -> float:
        out, up = 0.0, (1 - at[1]) / (v[1] + 1e-5)
        if up > 0 and -1 < v[0] * up + at[0] < 1:
            out += 0.2
        for wall in (-1, 1):
            side = (wall - at[0]) / (v[0] + 1e-5)
            if side > 0 and -1 < v[1] * side + at[1] < 1:
                out += 0.1
        return out

    @staticmethod
    def through(at: list[float], v: list[float], target: list[float]) -> bool:
        # The nearest approach of a ray that starts outside: ahead, and within the radius.
        d = [at[0] - target[0], at[1] - target[1]]
        a, b, c = v[0] ** 2 + v[1] ** 2 + 1e-8, 2 * (v[0] * d[0] + v[1] * d[1]), d[0] ** 2 + d[1] ** 2 - 0.04
        return b * b - 4 * a * c >= 0 and -b + math.sqrt(b * b - 4 * a * c) > 0

    def seen(self, i: int) -> list[float]:
        here = self.pos[i]

        def way(j: int) -> list[float]:
            return [self.pos[j][0] - here[0], self.pos[j][1] - here[1]]

        bodies = list(range(self.agents, len(self.pos)))
        others = [j for j in range(self.agents) if j != i]
        if self.name == "Compromise":
            bodies = [2 + i, 3 - i]
        if self.name == "Chase":
            return [*self.vel[i], *here, *way(others[0]), *way(2), *self.vel[2]]
        out = [*self.vel[i], *here, *sum(map(way, bodies), []), *sum(map(way, others), [])]
        if self.name == "SimpleSpread":
            out += [0.0] * 4
        return [*out, self.clock] if self.name == "Bounce" else out


TASKS = {"SimpleSpread": 25, "Spread": 100, "Compromise": 100, "Chase": 100, "Bounce": 100}


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_lives_what_plain_loops_live(name: str) -> None:
    lanes, steps, cap = 4, 1000, TASKS[name]
    batch: Any = gym.make_vec(f"cairn/{name}-v0", num_envs=lanes, device="cpu")
    obs, _ = batch.reset(seed=5)
    loops = [Loop(name, 5, lane, 0) for lane in range(lanes)]
    episodes, rng = [0] * lanes, np.random.default_rng(0)
    paid, ended, hold = 0.0, 0, None
    for t in range(steps):  # 4 lanes of 1,000 steps
        if name == "SimpleSpread":
            action = rng.integers(0, 5, (lanes, 3))
        else:
            if t % 10 == 0:  # forces that last, so that bodies go somewhere and meet
                hold = rng.uniform(-1, 1, (lanes, loops[0].agents, 2)).astype(np.float32)
            action = chasing(batch, hold, name) if t % 3 else hold
        for lane, loop in enumerate(loops):
            for i in range(loop.agents):
                np.testing.assert_allclose(obs[lane, i], loop.seen(i), atol=2e-6, err_msg=f"{t} {lane}")
        obs, reward, terminated, truncated, info = batch.step(torch.as_tensor(action))
        for lane, loop in enumerate(loops):
            expected, over = loop.step(action[lane])
            np.testing.assert_allclose(reward[lane], expected, atol=1e-5, err_msg=f"{t} {lane}")
            assert bool(terminated[lane]) == over and bool(truncated[lane]) == (loop.t == cap and not over)
            if over or loop.t == cap:
                for i in range(loop.agents):
                    np.testing.assert_allclose(info["final_obs"][lane, i], loop.seen(i), atol=2e-6)
                episodes[lane] += 1
                loops[lane] = Loop(name, 5, lane, episodes[lane])
            ended += over
        paid += float(reward.abs().sum())
    assert paid > 0, "something was paid, or the test has seen nothing"
    assert (ended > 0) == (name == "Bounce")


def chasing(batch: Any, hold: Any, name: str) -> Any:
    """Drive half of the agents to where something happens: to the landmarks, the prey, or under the ball."""
    pos, a = batch._s["pos"], hold.shape[1]
    goal = pos[:, a : a + 1].repeat(1, a, 1) if name in ("Chase", "Bounce") else pos[:, a:]
    if name == "Bounce":
        goal = goal.clone()
        goal[..., 0] += torch.tensor([-0.2, 0.2], dtype=goal.dtype)
        goal[..., 1] = 0.1
    way = (goal - pos[:, :a]).clamp(-0.2, 0.2).numpy() * 5
    return np.where(np.arange(len(hold))[:, None, None] % 2 == 0, way, hold).astype(np.float32)


def test_numbers_by_hand() -> None:
    batch: Any = gym.make_vec("cairn/Spread-v0", num_envs=1, device="cpu")
    batch.reset(seed=0)
    far = torch.tensor([[[-0.9, 0.0], [0.0, 0.0], [0.9, 0.0], [0.05, 0.0], [0.5, 0.9], [0.55, 0.9]]])
    batch._s["pos"] = far.double()
    batch._s["vel"].zero_()
    obs, reward, *_ = batch.step(torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]]))
    # From rest under a force of 1: speed 0.1, and 0.01 further on. The middle agent covers one landmark.
    assert obs[0, 0, :4].tolist() == pytest.approx([0.1, 0, -0.89, 0])
    assert obs[0, 2, :4].tolist() == pytest.approx([0, -0.1, 0.9, -0.01])
    assert reward.tolist() == [[1.0, 1.0, 1.0]]
    # Two that are 0.12 apart close in at 0.45 each, to 0.03: one landmark is covered, and the collision costs 1.
    batch._s["pos"][0, :2, 0] = torch.tensor([0.0, 0.12]).double()
    batch._s["vel"][0, :2, 0] = torch.tensor([0.5, -0.5]).double()
    reward = batch.step(torch.zeros(1, 3, 2))[1]
    assert reward.tolist() == [[0.0, 0.0, 0.0]]


def test_simple_spread_is_upstream_s() -> None:
    spread = pytest.importorskip("mpe2").simple_spread_v3
    theirs = spread.parallel_env(N=3, max_cycles=25)
    ours: Any = gym.make_vec("cairn/SimpleSpread-v0", num_envs=1, device="cpu")
    rng = np.random.default_rng(1)
    for episode in range(60):
        first, _ = theirs.reset(seed=episode)
        world = theirs.unwrapped.world
        ours.reset(seed=0)
        bodies = [*world.agents, *world.landmarks]
        ours._s["pos"] = torch.tensor(np.array([[b.state.p_pos for b in bodies]]))
        seen, _ = ours.observe()
        for t in range(25):
            for i in range(3):
                np.testing.assert_allclose(seen[0, i], first[f"agent_{i}"], atol=1e-6)
            action = rng.integers(0, 5, 3)
            if episode % 2:  # towards one landmark, so that they collide
                way = np.array([first[f"agent_{i}"][4:6] for i in range(3)])
                action = np.where(abs(way[:, 0]) > abs(way[:, 1]), 1 + (way[:, 0] > 0), 3 + (way[:, 1] > 0))
            first, paid, _, cut, _ = theirs.step({f"agent_{i}": int(action[i]) for i in range(3)})
            seen, reward, _, truncated, info = ours.step(torch.tensor(action)[None])
            assert bool(truncated) == all(cut.values()) == (t == 24)
            np.testing.assert_allclose(reward[0], [paid[f"agent_{i}"] for i in range(3)], atol=1e-5)
            seen = info["final_obs"]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="local_ratio"):
        gym.make_vec("cairn/SimpleSpread-v0", num_envs=1, local_ratio=2.0)
    with pytest.raises(ValueError, match="render_mode"):
        gym.make_vec("cairn/Spread-v0", num_envs=1, render_mode="human")


def test_five_numbers_act_as_upstream_s_do() -> None:
    one: Any = gym.make_vec("cairn/SimpleSpread-v0", num_envs=2, device="cpu")
    five: Any = gym.make_vec("cairn/SimpleSpread-v0", num_envs=2, device="cpu", continuous=True)
    assert five.single_action_space.shape == (3, 5)
    one.reset(seed=3), five.reset(seed=3)
    action = torch.tensor([[0, 1, 2], [3, 4, 0]])
    a, b = one.step(action), five.step(torch.nn.functional.one_hot(action, 5).float())
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
