"""Pictures of our own worlds with captions and true scores: what a small model is trained and judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .preprocess import Preprocessor


@dataclass
class Pictures:
    """M pictures of one world."""

    frames: Tensor
    """uint8 ``[M, H, W, 3]``."""
    captions: list[str]
    """What each shows; equal captions mean equal contents."""
    general: str
    """What all of them show ("a humanoid robot")."""
    truth: dict[str, Tensor] = field(default_factory=dict)
    """True scores by goal, 0 to 1, float32 ``[M]``; their names are the goals' captions."""
    more: list[tuple[str, ...]] = field(default_factory=list)
    """Further captions that are true of each; empty for none of any."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Sequence[int]) -> "Pictures":
        index = torch.as_tensor(rows)
        some, more = ([said[i] for i in index.tolist()] if said else [] for said in (self.captions, self.more))
        return Pictures(self.frames[index], some, self.general, {k: v[index] for k, v in self.truth.items()}, more)


# ---- Humanoid ------------------------------------------------------------------------------------------------------

# Joint angles in degrees, as the poses of envs/physics/poses.py want them; the torso leans by the last number.
POSES: dict[str, tuple[dict[str, float], float]] = {
    "standing": ({}, 0),
    "kneeling": ({"right_knee": -90, "left_knee": -90}, 0),
    "doing the splits": ({"right_hip_y": -90, "left_hip_y": -90, "right_hip_z": -60, "left_hip_z": -60}, 0),
    "raising its arms": ({
        "right_shoulder1": -85, "left_shoulder1": 85, "right_shoulder2": 25, "left_shoulder2": -25, "right_elbow": -90,
        "left_elbow": -90,
    }, 0),
    "standing on one leg": ({"right_hip_y": -60, "right_knee": -90}, 0),
    "lying on the ground": ({}, 90),
}  # fmt: skip
# The goals that the state can judge, and the tasks that do.
JUDGES = {
    "kneeling": "cairn/HumanoidKneel-v0",
    "doing the splits": "cairn/HumanoidSplits-v0",
    "raising its arms": "cairn/HumanoidArmsRaised-v0",
    "standing on one leg": "cairn/HumanoidOneLeg-v0",
}
ROBOT = "a humanoid robot"


def pose(model: Any, name: str, share: float, rng: np.random.Generator, noise: float = 0.1) -> NDArray[np.float64]:
    """A body on its way from standing to a pose, on the ground: ``qpos``.

    Args:
        model: The Humanoid's ``mujoco.MjModel``.
        name: Of ``POSES``.
        share: How far it has come, 0 to 1.
        rng: Draws what is not said: noise in the joints, the heading, and the side of one-legged poses.
        noise: Deviation of the joints' angles, in radians.
    """
    angles, lean = POSES[name]
    qpos: NDArray[np.float64] = model.qpos0.copy()
    other = name == "standing on one leg" and rng.random() < 0.5
    for joint, angle in angles.items():
        joint = joint.replace("right", "left") if other else joint
        qpos[model.joint(joint).qposadr[0]] = np.radians(angle) * share
    free = qpos[7:]
    free += rng.normal(0, noise, free.shape)
    limits = model.jnt_range[1:]
    qpos[7:] = np.clip(free, limits[:, 0], limits[:, 1])
    tilt = np.radians(lean) * share * (1 if rng.random() < 0.5 else -1) / 2
    turn = rng.normal(0, 2 * noise) / 2
    qpos[3:7] = [np.cos(tilt) * np.cos(turn), -np.sin(tilt) * np.sin(turn), np.sin(tilt) * np.cos(turn),
                 np.cos(tilt) * np.sin(turn)]  # fmt: skip
    qpos[0], qpos[1] = rng.normal(0, noise / 2, 2)
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    # Capsules and spheres: the lower end of each, all but the floor's.
    along = np.abs(data.geom_xmat[1:, 8]) * model.geom_size[1:, 1]
    lowest = data.geom_xpos[1:, 2] - model.geom_size[1:, 0] - np.where(model.geom_type[1:] == 3, along, 0.0)
    qpos[2] -= lowest.min()
    return qpos


def humanoid_model() -> Any:
    """The Humanoid's ``mujoco.MjModel``."""
    batch: Any = gym.make_vec(JUDGES["kneeling"], num_envs=1)
    return batch.model


def quick(model: Any, coarse: bool = False) -> None:
    """Leave shadows and smoothed edges out, which makes a picture nine times as cheap.

    Args:
        model: A ``mujoco.MjModel`` that is not painted yet.
        coarse: Leave the floor's reflection out too, and paint with fewer facets: twice as cheap again.
    """
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    if coarse:
        model.mat_reflectance[:] = 0
        model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 12, 8, 1
        model.vis.global_.offwidth = model.vis.global_.offheight = 1  # grown to the picture's own size


def humanoid_at(states: NDArray[np.float64], size: int = 64, lanes: int = 64, coarse: bool = False) -> Pictures:
    """Pictures of a Humanoid in given states ``qpos [M, 24]``, from the poses' own camera, painted as ``quick`` has it.

    Raises:
        RuntimeError: There is no OpenGL.
    """
    lanes = min(lanes, len(states))
    batches = {
        goal: gym.make_vec(task, num_envs=lanes, threads=1, render_mode="rgb_array", width=size, height=size)
        for goal, task in JUDGES.items()
    }
    scores: dict[str, list[Tensor]] = {goal: [] for goal in JUDGES}
    frames = []
    for begin in range(0, len(states), lanes):
        some = states[begin : begin + lanes]
        for goal, batch in batches.items():
            made: Any = batch
            if begin == 0:
                made.reset(seed=0)
                quick(made.model, coarse)
            made.set_state(np.arange(len(some)), some, np.zeros((len(some), made.model.nv)))
            scores[goal].append(made.observe()[1]["facts"]["score"][: len(some)].float().clone())
        frames += [np.array(picture) for picture in (batches["kneeling"].render() or ())[: len(some)]]
    for batch in batches.values():
        batch.close()
    truth = {f"{ROBOT} {goal}": torch.cat(parts) for goal, parts in scores.items()}
    return Pictures(torch.from_numpy(np.stack(frames)), [ROBOT] * len(states), ROBOT, truth)


def humanoid_pictures(count: int, seed: int = 0, size: int = 64) -> Pictures:
    """A Humanoid on its way to poses, each with the caption of what the state says that it does.

    Raises:
        RuntimeError: There is no OpenGL.
    """
    rng, model, names = np.random.default_rng(seed), humanoid_model(), list(POSES)
    meant = rng.integers(0, len(names), count)
    share = np.sqrt(rng.random(count))
    found = humanoid_at(np.stack([pose(model, names[k], s, rng) for k, s in zip(meant, share)]), size)
    scores = torch.stack(list(found.truth.values()))
    best, which = scores.max(0)
    for i, goal in enumerate(which.tolist()):
        name = names[meant[i]]
        if float(best[i]) >= 0.5:
            found.captions[i] = list(found.truth)[goal]
        elif share[i] < 0.3 or name == "standing":
            found.captions[i] = f"{ROBOT} standing"
        elif name == "lying on the ground":
            found.captions[i] = f"{ROBOT} {name if share[i] > 0.8 else 'falling over'}"
        else:
            found.captions[i] = f"{ROBOT} halfway to {name}"
    return found


# ---- CartPole ------------------------------------------------------------------------------------------------------

CART = "a pole on a cart"
WIDE = np.pi / 2  # the angle at which a pole lies


UPRIGHT = "a pole standing upright on a cart"


def cart_pole_at(states: NDArray[np.float64], size: int = 64) -> Pictures:
    """Pictures of Gymnasium's CartPole at positions and angles ``[M, 2]`` (metres, radians): the middle of each.

    The true score of an upright pole is the cosine of its angle.
    """
    env: Any = gym.make("CartPole-v1", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    frames = []
    for x, angle in states:
        env.state = np.array([x, 0.0, angle, 0.0])
        frames.append(square(torch.from_numpy(np.array(env.render()))[None], size))
    env.close()
    truth = {UPRIGHT: torch.from_numpy(np.cos(states[:, 1])).float()}
    return Pictures(torch.cat(frames), [f"a pole {_tilt(angle)} a cart" for _, angle in states], CART, truth)


def cart_pole_pictures(count: int, seed: int = 0, size: int = 64) -> Pictures:
    """CartPole at all angles and wherever the middle of its picture shows it, the upright ones more often."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-1, 1, count) ** 3 * WIDE
    return cart_pole_at(np.stack([rng.uniform(-1.3, 1.3, count), angles], 1), size)


def _tilt(angle: float) -> str:
    side = "right" if angle > 0 else "left"
    if abs(angle) < 0.1:
        return "standing upright on"
    return f"leaning to the {side} on" if abs(angle) < 0.7 else f"fallen to the {side} of"


# ---- DoorKey -------------------------------------------------------------------------------------------------------

ROOMS = "two rooms with a door between them"


def door_key_pictures(count: int, seed: int = 0, lanes: int = 64, steps: int = 160) -> Pictures:
    """DoorKey-6x6 as random walks meet it, what is rare as often as the rest."""
    envs: Any = gym.make_vec(
        "cairn/MiniGrid-DoorKey-6x6-v0",
        num_envs=lanes,
        render_mode="rgb_array",
        facts=["objects", "doors"],
        tile_size=10,
    )
    generator, info = torch.Generator().manual_seed(seed), envs.reset(seed=seed)[1]
    frames, captions = [], []
    for step in range(steps):
        if step % 2 == 0:
            facts = info["facts"]
            open_door = (facts["doors"] == 0).any(1).tolist()
            locked = (facts["doors"] == 2).any(1).tolist()
            key = (facts["objects"][:, 1] >= 0).any(-1).any(-1).tolist()
            frames.append(torch.stack([torch.from_numpy(np.array(picture)) for picture in envs.render()]))
            captions += [
                f"two rooms with {'an open' if o else 'a locked' if c else 'a closed'} door{' and a key' if k else ''}"
                for o, c, k in zip(open_door, locked, key)
            ]
        info = envs.step(torch.randint(0, 6, (lanes,), generator=generator))[4]
    envs.close()
    found = Pictures(torch.cat(frames), captions, ROOMS)
    rng, kinds = np.random.default_rng(seed), sorted(set(captions))
    places = {kind: np.flatnonzero([c == kind for c in captions]) for kind in kinds}
    chosen = [int(rng.choice(places[kinds[k % len(kinds)]])) for k in range(count)]
    found = found[chosen]
    found.truth["two rooms with an open door"] = torch.tensor([float("open" in c) for c in found.captions])
    return found


# ---- What goals do not speak of -------------------------------------------------------------------------------------

# Shares of red, green and blue that a lamp leaves.
LIGHTS: dict[str, tuple[float, float, float]] = {
    "white light": (1.0, 1.0, 1.0),
    "red light": (1.0, 0.55, 0.55),
    "green light": (0.55, 1.0, 0.55),
    "blue light": (0.55, 0.55, 1.0),
    "the dark": (0.35, 0.35, 0.35),
}


def lit(pictures: Pictures, light: Sequence[int]) -> Pictures:
    """The same in other lights, each of number ``light [M]`` of ``LIGHTS``; true scores stay as they are.

    What was said stays true, and so it is with the light named, of the picture and of its world in general.
    """
    names = [list(LIGHTS)[k] for k in light]
    shares = torch.tensor([LIGHTS[name] for name in names])
    frames = (pictures.frames * shares[:, None, None]).round().to(torch.uint8)
    more: list[tuple[str, ...]] = [
        (f"{caption} in {name}", f"{pictures.general} in {name}") for caption, name in zip(pictures.captions, names)
    ]
    return Pictures(frames, list(pictures.captions), pictures.general, dict(pictures.truth), more)


def square(frames: Tensor, size: int) -> Tensor:
    """The middle of pictures uint8 ``[M, H, W, 3]`` at ``size`` x ``size``, as CLIP's preprocessing has it."""
    edge = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    made = Preprocessor({**edge, "do_rescale": False, "do_normalize": False})
    return made(frames).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
