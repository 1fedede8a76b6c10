"""What can be said of a Humanoid by where the parts of its body are: captions for pictures of bodies in any state."""

from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from .scenes import ROBOT, Pictures, humanoid_at, humanoid_model

SIDES = ("left", "right")


def humanoid_told(states: NDArray[np.float64], seed: int = 0, size: int = 64, coarse: bool = False) -> Pictures:
    """Pictures of a Humanoid in given states ``qpos [M, 24]``, each with captions of what the state says.

    A goal's word is used of a body as often as its true score says: always at 1, never at 0, of two bodies in five at
    0.4. A model of captions comes to the frequency of a word given a picture, so that words of degree are not needed.
    Where no goal is named the trunk and the pelvis say what the body does. Three more captions speak of arms and legs.

    Args:
        states: What is shown.
        seed: Decides whether a goal is named.
        size: Of the pictures.
        coarse: As in ``humanoid_at``.

    Raises:
        RuntimeError: There is no OpenGL.
    """
    rng, model = np.random.default_rng(seed), humanoid_model()
    found, data = humanoid_at(states, size, coarse=coarse), mujoco.MjData(model)
    best, which = torch.stack(list(found.truth.values())).max(0)
    for i, qpos in enumerate(states):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        named = rng.random() < float(best[i])
        whole = list(found.truth)[int(which[i])] if named else f"{ROBOT} {posture(data)}"
        arms, legs = arms_of(data), legs_of(data)
        found.captions[i] = whole
        found.more.append((f"{whole} with {arms}", f"{whole} with {legs}", f"{ROBOT} with {arms} and {legs}"))
    return found


def posture(data: Any) -> str:
    """What the trunk and the height of the pelvis say."""
    upright, pelvis = float(data.body("torso").xmat[8]), float(data.geom("butt").xpos[2])
    if upright < 0.7:
        return "lying on the ground" if pelvis < 0.4 else "falling over"
    return "standing" if pelvis > 0.75 else "crouching" if pelvis > 0.45 else "sitting on the ground"


def arms_of(data: Any) -> str:
    """Where the hands are, by the height of the head."""
    head = float(data.geom("head").xpos[2])
    low, high = sorted(float(data.geom(f"{side}_hand").xpos[2]) - head for side in SIDES)
    if low > 0:
        return "both hands above its head"
    if high > 0:
        return "one hand above its head"
    return "its hands as high as its head" if low > -0.3 else "its hands down"


def legs_of(data: Any) -> str:
    """How far apart the thighs are, and how bent the knees."""
    left, right = (data.body(f"{side}_shin").xpos - data.body(f"{side}_thigh").xpos for side in SIDES)
    apart = np.arccos(np.clip(left @ right / np.linalg.norm(left) / np.linalg.norm(right), -1, 1))
    bent = sum(float(-data.joint(f"{side}_knee").qpos[0]) > np.pi / 3 for side in SIDES)
    where = "wide apart" if apart > np.pi / 2 else "apart" if apart > np.pi / 4 else "together"
    return f"its legs {where} and {('straight knees', 'one bent knee', 'bent knees')[bent]}"
