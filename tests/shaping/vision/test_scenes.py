"""Pictures with captions and true scores: that the three agree, without transformers."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from cairn.shaping.vision import scenes


def test_cart_pole_is_drawn_where_it_says() -> None:
    states = np.array([[0.0, 0.0], [0.0, 1.2], [-1.2, -0.2], [1.2, 0.5]])
    found = scenes.cart_pole_at(states)
    assert found.frames.shape == (4, 64, 64, 3) and found.frames.dtype == torch.uint8
    assert found.captions == [
        scenes.UPRIGHT, "a pole fallen to the right of a cart", "a pole leaning to the left on a cart",
        "a pole leaning to the right on a cart",
    ]  # fmt: skip
    assert torch.allclose(found.truth[scenes.UPRIGHT], torch.from_numpy(np.cos(states[:, 1])).float())
    dark = (found.frames < 60).all(-1)  # the cart
    columns = [float(mask.any(0).nonzero().float().mean()) for mask in dark]
    # The middle 400 of 600 pixels, which are 4.8 m wide, on 64: 20 pixels for a metre.
    assert columns == pytest.approx([31.5, 31.5, 31.5 - 24, 31.5 + 24], abs=1.5)
    some = found[[2, 0]]
    assert len(some) == 2 and some.captions[1] == scenes.UPRIGHT and torch.equal(some.frames[1], found.frames[0])
    # What an agent is paid for is seen through the same eyes: the picture of the environment itself.
    env = gym.make("CartPole-v1", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.state = np.array([-1.2, 0.0, -0.2, 0.0])  # type: ignore[attr-defined]
    assert torch.equal(scenes.square(torch.from_numpy(np.array(env.render()))[None], 64)[0], found.frames[2])


def test_lights_change_colours_and_what_can_be_said() -> None:
    frames = torch.full((3, 2, 2, 3), 200, dtype=torch.uint8)
    plain = scenes.Pictures(frames, ["a cat", "a dog", "a cat"], "a beast", {"a cat": torch.tensor([1.0, 0, 1])})
    names = list(scenes.LIGHTS)
    found = scenes.lit(plain, [names.index(name) for name in ("white light", "red light", "the dark")])
    assert found.frames[:, 0, 0].tolist() == [[200, 200, 200], [200, 110, 110], [70, 70, 70]]
    assert found.captions == plain.captions and found.general == "a beast" and found.truth.keys() == {"a cat"}
    assert found.more[1:] == [
        ("a dog in red light", "a beast in red light"), ("a cat in the dark", "a beast in the dark"),
    ]  # fmt: skip
    some = found[[2, 0]]
    assert some.more == [found.more[2], found.more[0]] and plain[[1]].more == []
    assert bool((plain.frames == 200).all()), "the plain ones stay as they are"


def test_rooms_say_what_is_in_them() -> None:
    found = scenes.door_key_pictures(60)
    assert len(found) == 60 and found.frames.shape[-1] == 3 and len(set(found.captions)) >= 3
    counts = [found.captions.count(caption) for caption in sorted(set(found.captions))]
    assert max(counts) - min(counts) <= 1, "what is rare comes as often"
    yellow = [
        int(((picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 80)).sum())
        for picture in found.frames
    ]
    key = ["and a key" in caption for caption in found.captions]
    locked = ["locked" in caption for caption in found.captions]
    doors = {True: [], False: []}  # type: ignore[var-annotated]
    for amount, k, c in zip(yellow, key, locked):
        if c:
            doors[k].append(amount)
    assert np.mean(doors[True]) > np.mean(doors[False]), "a key is some yellow more"


def test_poses_stand_on_the_ground_and_are_judged_by_their_tasks() -> None:
    model, rng = scenes.humanoid_model(), np.random.default_rng(0)
    for goal, task in scenes.JUDGES.items():
        batch = gym.make_vec(task, num_envs=1)
        batch.reset(seed=0)

        def scored(share: float, goal: str = goal, batch: object = batch) -> float:
            qpos = scenes.pose(model, goal, share, rng, noise=0.0)
            batch.set_state([0], [qpos], [np.zeros(model.nv)])  # type: ignore[attr-defined]
            return float(batch.observe()[1]["facts"]["score"][0])  # type: ignore[attr-defined]

        assert scored(1.0) > 0.9 and scored(0.0) < 0.1, goal
        batch.close()
    lying = scenes.pose(model, "lying on the ground", 1.0, rng)
    assert 0.05 < lying[2] < 0.4 < scenes.pose(model, "standing", 1.0, rng)[2]


def test_pictures_of_the_humanoid() -> None:
    try:
        found = scenes.humanoid_pictures(12, seed=1, size=48)
    except RuntimeError as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert found.frames.shape == (12, 48, 48, 3) and set(found.truth) == {
        f"a humanoid robot {g}" for g in scenes.JUDGES
    }
    assert all(caption.startswith(scenes.ROBOT) for caption in found.captions)
    for goal, score in found.truth.items():
        assert score.shape == (12,) and 0 <= float(score.min()) and float(score.max()) <= 1
        assert [float(s) >= 0.5 for s, c in zip(score, found.captions) if c == goal] == [True] * found.captions.count(
            goal
        )
    assert len({bytes(picture.numpy().tobytes()) for picture in found.frames}) == 12
    again = scenes.humanoid_pictures(12, seed=1, size=48)
    assert again.captions == found.captions and torch.equal(again.frames, found.frames)
