"""The worlds with reward areas beside plain loops in float64, and hand-computed cases."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cairn  # noqa: F401
from cairn.envs import check_batch_env
from cairn.envs.areas.arm import LINK, TOUCH, ArmBatch
from cairn.envs.areas.arm import WALLS as ARM_WALLS
from cairn.envs.areas.curling import CurlingBatch
from cairn.envs.areas.ids import AREA_IDS
from cairn.envs.areas.make import make, make_vec
from cairn.envs.areas.maze import WALLS, HardMazeBatch
from cairn.envs.areas.repertoire import RepertoireBatch

NAMES = [name for name, *_ in AREA_IDS]
KWARGS = {name: kwargs for name, *_, kwargs in AREA_IDS}
WORLDS = sorted({kwargs["world"] for kwargs in KWARGS.values()})


@pytest.mark.parametrize("world", WORLDS)
def test_batches_conform(world):
    check_batch_env(lambda n: make_vec(world, n))
    check_batch_env(lambda n: make_vec(world, n, max_episode_steps=5, render_mode="rgb_array", pixels=16))


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_accepts_the_single_one(name):
    check_env(gym.make(name, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("world", WORLDS)
def test_the_single_one_is_a_lane(world):
    one, many = make(world, max_episode_steps=7), make_vec(world, 3, max_episode_steps=7)
    obs, _ = one.reset(seed=4)
    rows, _ = many.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert np.array_equal(obs, rows[2].numpy())
        action = rng.uniform(-1, 1, one.action_space.shape).astype(np.float32)
        obs, paid, term, trunc, said = one.step(action)
        rows, reward, terminated, truncated, info = many.step(np.stack([action] * 3))
        assert (paid, term, trunc) == (reward[2].item(), terminated[2].item(), truncated[2].item())
        facts = info["final_facts"] if term or trunc else info["facts"]
        assert all(np.array_equal(said["facts"][k], facts[k][2].numpy()) for k in facts)
        if term or trunc:
            assert np.array_equal(obs, info["final_obs"][2].numpy())
            with pytest.raises(gym.error.ResetNeeded):
                one.step(action)
            obs, _ = one.reset()


def pay(outcome, areas):
    """The reward at an end, and the area's number."""
    for i, (x, y, radius) in enumerate(areas.tolist()):
        away = math.dist(outcome, (x, y))
        if away <= radius:
            return (radius - away) / radius, i
    return 0.0, -1


def rollout(batch, steps, seed=0, scale=1.0, hold=1):
    """Random actions; yields the state before, the actions, and what the step gave."""
    generator = torch.Generator().manual_seed(seed)
    batch.reset(seed=0)
    shape = (batch.num_envs, *batch.single_action_space.shape)
    for t in range(steps):
        if t % hold == 0:
            actions = scale * (2 * torch.rand(shape, generator=generator) - 1)
        before = {k: v.clone() for k, v in batch.state_dict().items() if k != "begun"}
        obs, reward, terminated, truncated, info = batch.step(actions)
        ended = terminated | truncated
        after = torch.where(ended[:, None], info["final_facts"]["descriptor"], info["facts"]["descriptor"])
        seen = torch.where(ended[:, None], info["final_obs"], obs)
        yield before, actions, seen, reward, terminated, truncated, after


# ---- the redundant arm ----


def arm_joints(angles):
    x, y, turned, out = 0.5, 0.5, math.pi / 2, [(0.5, 0.5)]
    for angle in angles:
        turned += angle
        x, y = x + LINK * math.cos(turned), y + LINK * math.sin(turned)
        out.append((x, y))
    return out


def arm_margin(joints):
    """How far the arm is from being illegal; negative where it is."""
    margin = min(min(min(p), 1 - max(p)) for p in joints)
    for x, y, w, h in ARM_WALLS:
        for px, py in joints:
            margin = min(margin, max(x - px, px - x - w, y - py, py - y - h))
    for i, p in enumerate(joints):
        for q in joints[i + 2 :]:
            margin = min(margin, abs(p[0] - q[0]) + abs(p[1] - q[1]) - TOUCH)
    return margin


def test_the_arm_is_the_plain_loop():
    batch, ends, close = ArmBatch(24), 0, 0
    for before, actions, seen, reward, terminated, truncated, after in rollout(batch, 120, hold=40):
        for i in range(0, 24, 5):
            angles, speeds = before["angles"][i].double().tolist(), before["speeds"][i].double().tolist()
            hand, stopped, unsure = arm_joints(angles)[-1], False, False
            for _ in range(2):
                faster = [s + a * 0.005 for s, a in zip(speeds, actions[i].tolist())]
                there = [q + s * 0.01 for q, s in zip(angles, faster)]
                joints = arm_joints(there)
                margin = arm_margin(joints)
                unsure = unsure or abs(margin) < 1e-5
                stopped = stopped or margin < 0
                if stopped:
                    break
                angles, speeds, hand = there, faster, joints[-1]
            if unsure:
                close += 1
                continue
            assert bool(terminated[i]) == stopped
            assert after[i].tolist() == pytest.approx(hand, abs=1e-5)
            assert seen[i].tolist() == pytest.approx([max(-1, min(1, a / math.pi)) for a in angles], abs=1e-5)
            done = stopped or bool(truncated[i])
            assert reward[i].item() == pytest.approx(pay(hand, batch.areas)[0] if done else 0.0, abs=1e-3)
            ends += done
    assert ends > 3 and close < 10


def test_the_arm_by_hand():
    batch = ArmBatch(1)

    def legal(joints):
        return bool(batch._legal(joints[0, :, :1], joints[0, :, 1:]))

    straight = batch.joints(torch.zeros(1, 20))
    assert torch.allclose(straight[0, -1], torch.tensor([0.5, 1.5]))
    right = torch.zeros(1, 20)
    right[0, 0] = -math.pi / 2
    assert torch.allclose(batch.joints(right)[0, -1], torch.tensor([1.5, 0.5]), atol=1e-6)
    assert not legal(straight)  # out of the square
    batch.reset(seed=0)
    assert legal(batch.joints(batch._s["angles"]))
    folded = torch.zeros(1, 20)
    folded[0, 4], folded[0, 5] = math.pi / 2 + 0.8, math.pi / 2 + 0.8
    assert not legal(batch.joints(folded))
    upright = torch.stack([torch.full((21,), 0.6), torch.linspace(0.0, 0.99, 21)], -1)[None]
    assert legal(upright)  # 0.0495 from joint to joint, more than TOUCH from each to the next but one
    assert not legal(upright * 0.45)
    assert not legal(upright - torch.tensor([0.1, 0.0]))  # through two walls


def test_arms_of_small_and_large_batches_agree(monkeypatch):
    batch = ArmBatch(300)
    batch.reset(seed=0)
    noise = 0.15 * torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    chain = batch._chain(batch._s["angles"] + noise)
    small = batch._legal(*chain)
    monkeypatch.setattr("cairn.envs.areas.arm.SMALL", 0)
    assert torch.equal(small, batch._legal(*chain)) and 10 < small.sum() < 290


def test_pay_by_hand():
    batch = ArmBatch(1)
    at = torch.tensor([[0.25, 0.25], [0.25, 0.275], [0.25, 0.31], [0.85, 0.84]])
    worth, area = batch.pay(at)
    assert worth.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.8], abs=1e-5)
    assert area.tolist() == [0, 0, -1, 1]


# ---- the hard maze ----


def ray(px, py, angle):
    """The free way by walking along the ray in small steps."""
    best = 100.0
    dx, dy = math.cos(angle), math.sin(angle)
    for x1, y1, x2, y2 in WALLS:
        ex, ey = x2 - x1, y2 - y1
        det = dx * -ey + ex * dy
        if abs(det) < 1e-12:
            continue
        t = ((x1 - px) * -ey + ex * (y1 - py)) / det
        s = (dx * (y1 - py) - dy * (x1 - px)) / det
        if t >= 0 and 0 <= s <= 1:
            best = min(best, t)
    return best


def wall_distance(px, py):
    best = (math.inf, 0.0, 0.0)
    for x1, y1, x2, y2 in WALLS:
        ex, ey = x2 - x1, y2 - y1
        s = max(0.0, min(1.0, ((px - x1) * ex + (py - y1) * ey) / (ex * ex + ey * ey)))
        way = (x1 + s * ex - px, y1 + s * ey - py)
        best = min(best, (math.hypot(*way), *way))
    return best


def test_the_maze_is_the_plain_loop():
    batch, blocked, bumps = HardMazeBatch(16), 0, [0, 0]
    for before, actions, seen, _, terminated, _, after in rollout(batch, 600, seed=1, hold=25):
        assert not terminated.any()
        for i in range(0, 16, 3):
            (x, y), heading = before["place"][i].double().tolist(), before["heading"][i].item()
            left, right = (4.0 * a for a in actions[i].tolist())
            n = 4000  # the arc by small steps
            turn = (right - left) / 20
            angle = heading + turn * (np.arange(n) + 0.5) / n
            there = x + np.cos(angle).mean() * (left + right) / 2, y + np.sin(angle).mean() * (left + right) / 2
            distance, wx, wy = wall_distance(*there)
            if abs(distance - 10.0) < 1e-3:
                continue
            if distance >= 10.0:
                x, y = there
            heading += turn
            assert after[i].tolist() == pytest.approx([x / 600, y / 600], abs=1e-5)
            side = math.remainder(math.atan2(wy, wx) - heading, 2 * math.pi)
            want = [
                float(distance < 10 and 0 <= side <= math.pi / 2),
                float(distance < 10 and -math.pi / 2 <= side < 0),
            ]
            assert seen[i, 3:].tolist() == want
            blocked += distance < 10
            bumps = [a + b for a, b in zip(bumps, want)]
            free = [ray(x, y, heading + a) / 100 for a in (math.pi / 4, 0, -math.pi / 4)]
            close = np.abs(np.array(free) - seen[i, :3].numpy()) < 2e-3
            assert close.sum() >= 2  # a ray that just grazes a wall's end may see past it
    assert blocked > 20 and min(bumps) > 3


def test_the_maze_by_hand():
    batch = HardMazeBatch(2, max_episode_steps=3)
    obs, _ = batch.reset(seed=0)
    # (60, 450) to the east wall of the first corridor, x = 175, at 45 degrees less 45: 115 > 100; down: the border.
    assert obs[0].tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0, 0.0])
    _, reward, terminated, truncated, info = batch.step(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
    step = 4 / math.sqrt(2)
    assert info["facts"]["descriptor"][0].tolist() == pytest.approx([(60 + step) / 600, (450 + step) / 600])
    assert info["facts"]["descriptor"][1].tolist() == pytest.approx([0.1, 0.75])  # it turned on the spot
    assert batch._s["heading"].tolist() == pytest.approx([math.pi / 4, math.pi / 4 + 0.4])
    batch._s["place"] = torch.tensor([[60.0, 60.0], [60.0, 85.0]])
    batch.step(torch.zeros(2, 2))
    _, reward, terminated, truncated, info = batch.step(torch.zeros(2, 2))
    assert truncated.all() and not terminated.any()
    assert reward.tolist() == pytest.approx([1.0, 0.5], abs=1e-5)
    assert info["final_facts"]["area"].tolist() == [0, 0] and info["facts"]["area"].tolist() == [-1, -1]


def test_the_maze_is_closed():
    """No way leads from the start to the goal's chamber but the long one: its walls leave one gap."""
    reach = np.zeros((120, 120), bool)
    free = np.array([[wall_distance(5 * i + 2.5, 5 * j + 2.5)[0] >= 10 for j in range(120)] for i in range(120)])
    todo = [(12, 90)]
    while todo:
        i, j = todo.pop()
        if 0 <= i < 120 and 0 <= j < 120 and free[i, j] and not reach[i, j]:
            reach[i, j] = True
            todo += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    assert reach[12, 12] and reach[20, 40]  # both areas can be reached
    assert reach.sum() / free.sum() > 0.95


# ---- curling ----


def test_the_ball_by_hand():
    batch = CurlingBatch(3)
    batch.reset(seed=0)
    far = torch.tensor([[-0.5, 0.2], [1.3, 0.0], [-0.5, 0.2]])
    flight = torch.tensor([[0.0, 0.6], [6.0, 0.0], [0.0, 0.0]])
    batch._s = batch._state(far, flight, torch.zeros(3, 2), torch.zeros(3, 2))
    slow = 1 / (1 + 1.1 / 60)
    batch.step(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, -0.5]]))
    assert batch._s["ball"][0].tolist() == pytest.approx([-0.5, 0.2 + 0.01 * slow], abs=1e-6)
    assert batch._s["ball"][1].tolist() == pytest.approx([1.35, 0.0], abs=1e-6)  # at the edge
    assert batch._s["flight"][1].tolist() == pytest.approx([-0.9 * 6.0 * slow, 0.0], abs=1e-5)
    assert batch._s["angles"][2].tolist() == pytest.approx([0.5 / 60, -0.5 / 60], abs=1e-6)


def test_an_arm_that_swings_throws_the_ball():
    """The first link turns at 1 rad/s with the second one straight: the ball leaves at 1.9 times the link's speed."""
    batch = CurlingBatch(1)
    batch.reset(seed=0)
    # The arm is upright, its surface at x = -0.05; the ball is 1 mm off it, 1.2 m up the arm.
    batch._s = batch._state(torch.tensor([[-0.201, -0.3]]), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    batch.step(torch.tensor([[1.0, 0.0]]))
    normal = -torch.tensor([math.cos(1 / 60), math.sin(1 / 60)])
    speed = batch._s["flight"][0] @ normal
    assert speed.item() == pytest.approx(1.9 * 1.2, rel=0.01)
    assert (batch._s["flight"][0] - speed * normal).norm() < 0.02


def test_nothing_ever_overlaps():
    batch = CurlingBatch(64)
    moved = torch.zeros(64, dtype=torch.bool)
    for row in rollout(batch, 500, seed=2, hold=60):
        if row[5].any():
            break
        assert (batch._s["ball"].abs() <= 1.35 + 1e-6).all()
        gap = batch._contact(batch._s["ball"], batch.links(batch._s["angles"]))[2]
        assert (gap >= 0.2 - 2e-4).all()
        assert (batch.links(batch._s["angles"])[:, 1:].abs() <= 1.5 + 1e-6).all()
        moved |= (batch._s["ball"] != torch.tensor([-0.5, 0.2])).any(-1)
    assert moved.float().mean() > 0.5


def curling_step(ball, flight, angles, action):
    """One tick of the rules in plain floats: arm, ball, links, edges, squeeze."""
    old_ball, old_angles = ball, angles
    new = [max(-lim, min(lim, a + u / 60)) for a, u, lim in zip(angles, action, (0.4 * math.pi, 0.9 * math.pi))]

    def ends(q):
        p = [(0.0, -1.5)]
        for turned in (q[0], q[0] + q[1]):
            p.append((p[-1][0] - math.sin(turned), p[-1][1] + math.cos(turned)))
        return p

    if any(abs(c) > 1.5 for p in ends(new)[1:] for c in p):
        new = list(angles)
    rate = [(a - b) * 60 for a, b in zip(new, angles)]
    flight = [f / (1 + 1.1 / 60) for f in flight]
    ball = [b + f / 60 for b, f in zip(ball, flight)]
    p = ends(new)

    def nearest(b, link):
        (x1, y1), (x2, y2) = p[link], p[link + 1]
        s = max(0.0, min(1.0, (b[0] - x1) * (x2 - x1) + (b[1] - y1) * (y2 - y1)))
        return x1 + s * (x2 - x1), y1 + s * (y2 - y1)

    for link in range(2):
        c = nearest(ball, link)
        d = math.dist(ball, c)
        if d < 0.2:
            n = [(ball[0] - c[0]) / d, (ball[1] - c[1]) / d]
            pivot = p[1] if link else c
            v = [-rate[0] * (pivot[1] - p[0][1]), rate[0] * (pivot[0] - p[0][0])]
            if link:
                v = [v[0] - sum(rate) * (c[1] - p[1][1]), v[1] + sum(rate) * (c[0] - p[1][0])]
            closing = sum((f - u) * m for f, u, m in zip(flight, v, n))
            if closing < 0:
                flight = [f - 1.9 * closing * m for f, m in zip(flight, n)]
            ball = [c[0] + 0.2 * n[0], c[1] + 0.2 * n[1]]
    for k in range(2):
        if abs(ball[k]) > 1.35:
            if flight[k] * ball[k] > 0:
                flight[k] *= -0.9
            ball[k] = math.copysign(1.35, ball[k])
    if any(math.dist(ball, nearest(ball, link)) < 0.2 - 1e-4 for link in range(2)):
        return old_ball, [0.0, 0.0], old_angles, [0.0, 0.0], True
    return ball, flight, new, rate, False


def test_curling_is_the_plain_loop():
    batch, touched, squeezed = CurlingBatch(40), 0, 0
    for before, actions, seen, _, terminated, _, after in rollout(batch, 260, seed=5, hold=50):
        assert not terminated.any()
        for i in range(40):
            state = [before[k][i].double().tolist() for k in ("ball", "flight", "angles")]
            ball, flight, angles, rate, stuck = curling_step(*state, actions[i].tolist())
            assert after[i].tolist() == pytest.approx(ball, abs=1e-3)
            want = [ball[0] / 1.5, ball[1] / 1.5, angles[0] * 2 / math.pi, angles[1] / math.pi, *rate]
            assert seen[i].tolist() == pytest.approx(want, abs=2e-3)
            assert batch._s["flight"][i].tolist() == pytest.approx(flight, abs=2e-3)
            touched += flight != pytest.approx(state[1], abs=0.1)
            squeezed += stuck
    assert touched > 20


# ---- the repertoire ----


def test_the_repertoire_by_hand():
    batch = RepertoireBatch(2, joints=2)
    batch.reset(seed=0)
    _, reward, terminated, _, info = batch.step(torch.tensor([[0.0, math.pi / 2], [math.pi / 2, math.pi / 2]]))
    assert terminated.all()
    assert info["final_facts"]["descriptor"].tolist() == [pytest.approx([1, 1]), pytest.approx([-1, 1])]
    assert reward.tolist() == pytest.approx([100 * (1 - math.pi**2 / 16), 100.0])


# ---- pictures ----


def test_pictures_show_areas_and_what_moves():
    from cairn.envs.areas.pictures import AREA, BLUE

    for world in ("arm", "maze", "curling"):
        batch = make_vec(world, 2, render_mode="rgb_array", pixels=100)
        batch.reset(seed=0)
        first = batch.render()[0]
        colours = {tuple(c) for c in first.reshape(-1, 3).tolist()}
        assert AREA in colours and BLUE in colours
        blue = np.argwhere((first == BLUE).all(-1)).mean(0) / 100  # row, column
        low, high, up = batch._extent()
        outcome = batch._facts(batch._s)["descriptor"][0].numpy()
        x, y = (outcome - np.array(low)) / (np.array(high) - np.array(low))
        assert blue == pytest.approx([1 - y if up else y, x], abs=0.02)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="pixels"):
        make_vec("arm", 1, pixels=2)
    with pytest.raises(ValueError, match="render_mode"):
        make_vec("arm", 1, render_mode="human")
    with pytest.raises(ValueError, match="there are"):
        make_vec("maise", 1)
    with pytest.raises(ValueError, match="joints"):
        make_vec("repertoire", 1, joints=0)
