"""The hard maze that pays progress, seen in pictures, several moves a step."""

import math

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs import check_batch_env
from cairn.envs.areas.maze import AREAS, WALLS, HardMazeBatch
from cairn.envs.kinds import Pixels


def lived(env, steps, seed=0, hold=15):
    """Random actions, held for a while; every step's actions, results and states."""
    generator = torch.Generator().manual_seed(seed)
    env.reset(seed=0)
    for t in range(steps):
        if t % hold == 0:
            actions = 2 * torch.rand(env.num_envs, 2, generator=generator) - 1
        yield actions, env.step(actions), env._s["place"].clone()


@pytest.mark.parametrize(
    "options",
    [
        {"reward": "progress"},
        {"reward": "progress", "sees": "picture", "ticks": 4, "pixels": 16},
        {"reward": "progress", "sees": "view", "ticks": 4},
    ],
    ids=["sensors", "picture", "view"],
)
def test_they_conform(options):
    check_batch_env(lambda n: HardMazeBatch(n, max_episode_steps=5, **options))


def test_progress_adds_up_to_how_much_nearer_the_end_is():
    env, plain = HardMazeBatch(20, reward="progress", max_episode_steps=80), HardMazeBatch(20, max_episode_steps=80)
    total = torch.zeros(20)
    for (_, out, place), (_, other, same) in zip(lived(env, 80), lived(plain, 80)):
        total += out[1]
        assert torch.equal(place, same) and torch.equal(out[2], other[2])
    end = out[4]["final_facts"]["descriptor"]
    away = [math.dist((60, 450), (60, 60)) - math.dist(p, (60, 60)) for p in (600 * end).tolist()]
    assert total.tolist() == pytest.approx([a / 600 for a in away], abs=1e-4)
    assert torch.allclose(env.returns(end), total, atol=1e-4) and total.std() > 0.05
    assert torch.equal(plain.returns(end), plain.pay(end)[0])


def test_a_step_of_progress_by_hand():
    env = HardMazeBatch(2, reward="progress")
    env.reset(seed=0)
    env._s["place"] = torch.tensor([[60.0, 100.0], [300.0, 50.0]])
    env._s["heading"] = torch.tensor([-math.pi / 2, 0.0])
    _, reward, _, _, info = env.step(torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    assert reward.tolist() == pytest.approx([4 / 600, (math.hypot(240, 10) - math.hypot(244, 10)) / 600], abs=1e-6)
    assert info["facts"]["area"].tolist() == [0, -1]  # areas are told as ever


def test_four_moves_a_step():
    quick, slow = HardMazeBatch(30, ticks=4), HardMazeBatch(30)
    assert quick.max_steps == 125 and HardMazeBatch(1, ticks=4, max_episode_steps=10).max_steps == 10
    slow.reset(seed=0)
    for actions, out, place in lived(quick, 60):
        for _ in range(4):
            obs = slow.step(actions)[0]
        assert torch.equal(place, slow._s["place"]) and torch.equal(out[0], obs)
    assert (quick.nearest(place)[0] < 14).any()  # some met a wall


def test_pictures_are_seen():
    env = HardMazeBatch(3, sees="picture", pixels=24, max_episode_steps=4, render_mode="rgb_array")
    assert env.single_observation_space == Pixels((24, 24, 3))
    obs, _ = env.reset(seed=0)
    first = obs.clone()
    turned = torch.tensor([[1.0, 1.0], [1.0, 0.5], [-1.0, 1.0]])
    for _ in range(4):
        assert all((o.numpy() == frame).all() for o, frame in zip(obs, env.render()))
        before = obs.clone()
        obs, _, _, truncated, info = env.step(turned)
    assert truncated.all() and torch.equal(obs, first)
    assert torch.equal(before[0, :12], first[0, :12]) and not torch.equal(info["final_obs"][0], first[0])
    assert not torch.equal(info["final_obs"][2], first[2])  # on the same spot, it looks elsewhere


@pytest.mark.parametrize("pixels", [8, 16, 33, 100])
def test_a_window_is_enough(pixels):
    """What is drawn near the robot alone is the whole picture, in corners and with walls too."""
    env = HardMazeBatch(300, pixels=pixels)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        "place": 600 * torch.rand(300, 2, generator=generator),
        "heading": 7 * torch.rand(300, generator=generator),
    }
    state["place"][:4] = torch.tensor([[0.0, 0.0], [600.0, 0.0], [0.0, 600.0], [600.0, 600.0]])
    window = env._pictures(state)
    assert torch.equal(window, env._canvas.draw(env._shapes(state)))
    assert (window != window[:1]).any((1, 2, 3)).sum() > 290


def test_a_view_is_the_plain_loop():
    """Each pixel by itself: where its middle lies in the maze, and what is there."""
    env = HardMazeBatch(24, sees="view")
    assert env.single_observation_space == Pixels((16, 16, 1))
    generator, shades = torch.Generator().manual_seed(0), set()
    place, heading = 600 * torch.rand(24, 2, generator=generator), 7 * torch.rand(24, generator=generator)
    place[0] = torch.tensor([90.0, 130.0])  # sees an area
    seen = env.view(place, heading)
    for i in range(24):
        for row, column in torch.randint(0, 16, (40, 2), generator=generator).tolist():
            ahead, left = 100 - 12.5 * (row + 0.5), 100 - 12.5 * (column + 0.5)
            (x, y), angle = place[i].double().tolist(), heading[i].item()
            x += ahead * math.cos(angle) + left * math.cos(angle + math.pi / 2)
            y += ahead * math.sin(angle) + left * math.sin(angle + math.pi / 2)
            wall = min(_from_wall(x, y, *ends) for ends in WALLS)
            area = min(math.dist((x, y), (u, v)) - r for u, v, r in AREAS)
            if abs(wall - 9.375) > 0.01 and abs(area) > 0.01:
                shade = 0 if wall < 9.375 else 150 if area < 0 else 255
                assert seen[i, row, column, 0].item() == shade
                shades.add(shade)
    assert shades == {0, 150, 255}


def _from_wall(x, y, x1, y1, x2, y2):
    along, across = x2 - x1, y2 - y1
    part = max(0.0, min(1.0, ((x - x1) * along + (y - y1) * across) / (along**2 + across**2)))
    return math.dist((x, y), (x1 + part * along, y1 + part * across))


def test_options_are_checked():
    for options in ({"reward": "none"}, {"sees": "all"}, {"ticks": 0}, {"ticks": 501}, {"ticks": True}):
        with pytest.raises(ValueError, match=next(iter(options))):
            HardMazeBatch(1, **options)
    with pytest.raises(ValueError, match="pixels"):
        HardMazeBatch(1, sees="picture", pixels=4)


def test_ids():
    one = gym.make("cairn/DeceptiveMazePixels-v0")
    obs, _ = one.reset(seed=0)
    assert obs.shape == (32, 32, 3) and one.unwrapped.max_steps == 125
    assert gym.make("cairn/DeceptiveMazeView-v0").reset(seed=0)[0].shape == (16, 16, 1)
    envs = gym.make_vec("cairn/DeceptiveMaze-v0", num_envs=4)
    assert envs.reset(seed=0)[0].shape == (4, 5) and envs.reward == "progress"
