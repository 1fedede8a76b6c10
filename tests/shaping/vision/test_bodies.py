"""What is said of bodies: by hand, and by chance as often as the score says."""

from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from cairn.shaping.vision import bodies, scenes


def shaped(model: Any, **angles: float) -> Any:
    """A standing body with some joints (degrees) or its height and lean set."""
    data = mujoco.MjData(model)
    data.qpos[:] = scenes.pose(model, "standing", 1.0, np.random.default_rng(0), noise=0.0)
    for joint, angle in angles.items():
        if joint == "height":
            data.qpos[2] = angle
        elif joint == "lean":
            half = np.radians(angle) / 2
            data.qpos[3:7] = [np.cos(half), 0, np.sin(half), 0]
        else:
            data.qpos[model.joint(joint).qposadr[0]] = np.radians(angle)
    mujoco.mj_kinematics(model, data)
    return data


def test_posture_by_hand() -> None:
    model = scenes.humanoid_model()
    assert bodies.posture(shaped(model)) == "standing"
    assert bodies.posture(shaped(model, height=1.0)) == "crouching"
    assert bodies.posture(shaped(model, height=0.6)) == "sitting on the ground"
    assert bodies.posture(shaped(model, lean=60)) == "falling over"
    assert bodies.posture(shaped(model, lean=90, height=0.1)) == "lying on the ground"


def test_arms_and_legs_by_hand() -> None:
    model = scenes.humanoid_model()
    up = {"right_shoulder1": -85, "right_shoulder2": 25, "right_elbow": -90}
    both = {**up, "left_shoulder1": 85, "left_shoulder2": -25, "left_elbow": -90}
    assert bodies.arms_of(shaped(model)).startswith("its hands")
    assert bodies.arms_of(shaped(model, **up)) == "one hand above its head"
    assert bodies.arms_of(shaped(model, **both)) == "both hands above its head"
    assert bodies.legs_of(shaped(model)) == "its legs together and straight knees"
    assert bodies.legs_of(shaped(model, right_knee=-90)) == "its legs together and one bent knee"
    assert bodies.legs_of(shaped(model, right_knee=-90, left_knee=-90)) == "its legs together and bent knees"
    splits = shaped(model, **scenes.POSES["doing the splits"][0])
    assert bodies.legs_of(splits) == "its legs wide apart and straight knees"


def test_a_goal_is_named_as_often_as_its_score_says() -> None:
    model, rng = scenes.humanoid_model(), np.random.default_rng(0)
    # The knees lift the pelvis and themselves: somewhere on the way the score is between 0 and 1.
    kneeling = scenes.pose(model, "kneeling", 1.0, rng, noise=0.0)
    half = kneeling.copy()
    half[2] += 0.15
    try:
        found = bodies.humanoid_told(np.stack([kneeling] * 20 + [half] * 200 + [model.qpos0] * 5), size=16)
    except RuntimeError as error:
        pytest.skip(f"no OpenGL here: {error}")
    goal = f"{scenes.ROBOT} kneeling"
    score = float(found.truth[goal][20])
    assert 0.2 < score < 0.8 and float(found.truth[goal][0]) == pytest.approx(1, abs=0.05)
    named = torch.tensor([caption == goal for caption in found.captions])
    assert named[:20].all() and not named[220:].any()
    assert float(named[20:220].float().mean()) == pytest.approx(score, abs=0.12)
    for caption, more in zip(found.captions, found.more):
        assert len(more) == 3 and all(text.startswith(caption) for text in more[:2]) and "legs" in more[2]


def test_a_coarse_picture_shows_the_same_and_nothing_else_is_changed() -> None:
    model, rng = scenes.humanoid_model(), np.random.default_rng(0)
    states = np.stack([scenes.pose(model, name, 1.0, rng) for name in ("standing", "doing the splits")])
    try:
        fine, coarse = (scenes.humanoid_at(states, coarse=coarse) for coarse in (False, True))
    except RuntimeError as error:
        pytest.skip(f"no OpenGL here: {error}")
    apart = (fine.frames.float() - coarse.frames.float()).abs().mean((1, 2, 3))
    across = float((fine.frames[0].float() - fine.frames[1].float()).abs().mean())
    assert 0 < float(apart.max()) < across / 3
    assert all(torch.equal(fine.truth[goal], coarse.truth[goal]) for goal in fine.truth)
