"""What a model is shown of Text2Reward's behaviours: what the inputs mean, and how a trained agent's episodes went."""

import torch
from torch import Tensor

from cairn.shaping import Stretch
from cairn.shaping.language.search import Recorded

DOCS = {
    "Hopper": {
        "qpos": "a leg that hops in a plane: qpos is x, z (m), pitch of the torso (rad, positive leans forward, not "
        "wrapped), angles of thigh, leg and foot",
        "qvel": "the velocities of qpos in its order (m/s, rad/s)",
        "xpos": "x, y, z (m) of world, torso, thigh, leg, foot",
        "touching": "contacts: of the floor with torso, thigh, leg, foot; of the torso with thigh, leg, foot; of the "
        "thigh with leg, foot; of the leg with the foot",
        "feet": "whether the foot is on the ground",
        "action": "torques of thigh, leg and foot, from -1 to 1",
        "step": "steps of the episode before this one; a step is 0.008 s, and an episode has LIMIT",
    },
    "Ant": {
        "qpos": "a torso on four legs: qpos is x, y, z (m), orientation (quaternion w, x, y, z), then hip and ankle of "
        "each leg: front left, front right, back left, back right (rad)",
        "qvel": "x, y, z velocity (m/s) and angular velocity (rad/s) of the torso, then of hips and ankles in "
        "qpos's order",
        "xpos": "x, y, z (m) of world, torso, then root, hip joint and ankle joint of each leg, in qpos's order",
        "touching": "contacts of the floor with the torso, then with hip part, thigh and shin of each leg, in "
        "qpos's order",
        "feet": "whether the shin of each leg is on the ground, in qpos's order of the legs",
        "action": "torques, from -1 to 1: hip and ankle of back right, front left, front right, back left",
        "step": "steps of the episode before this one; a step is 0.05 s, and an episode has LIMIT",
    },
    "FetchReach": {"gripper": "x, y, z of the gripper (m)", "target": "x, y, z of where it is to be (m)"},
}
FALLS = {
    "Hopper": "whether it fell, which ends the episode: the torso below 0.7 m or leaning by more than 0.2 rad",
    "Ant": "whether it fell, which ends the episode: the torso below 0.2 m or above 1 m",
}


def qpos(x: Stretch) -> Tensor:
    """The states of an episode, the first one too, ``[L + 1, Q]``."""
    return torch.cat([x.fact("qpos")[:1], x.fact("qpos", of_next=True)])


def watched(seen: Recorded) -> list[str]:
    """What somebody who watches episodes could tell, in figures; the predicates have no part in it."""
    episodes = [seen.rows(e) for e in range(len(seen))]
    lengths = [len(x.t) for x in episodes]
    fell = sum(bool(x.terminated.any()) for x in episodes) / len(episodes)
    lines = [
        f"The agent's episodes had {min(lengths)} to {max(lengths)} steps, {sum(lengths) / len(lengths):.0f} on "
        f"average; {fell:.0%} ended by terminated."
    ]
    if "qpos" not in seen.x.facts:
        return lines
    states = [qpos(x) for x in episodes]
    at = torch.stack([s[[k * (len(s) - 1) // 4 for k in range(5)]] for s in states]).mean(0)
    least, most = torch.stack([torch.stack([s.amin(0), s.amax(0)]) for s in states]).mean(0)
    lines.append("Means over these episodes, at the start, a quarter, half, three quarters and the end of each:")
    lines += [
        f"- qpos[:, {k}]: {', '.join(f'{v:.2f}' for v in at[:, k])} (of an episode: {least[k]:.2f} to {most[k]:.2f})"
        for k in range(at.shape[1])
    ]
    feet = torch.stack([x.fact("feet", of_next=True).float().mean(0) for x in episodes]).mean(0)
    last = torch.stack([x[-200:].fact("feet", of_next=True).float().mean(0) for x in episodes]).mean(0)
    lines += [
        f"- feet[:, {k}]: true on {a:.0%} of the steps, on {b:.0%} of the last 200"
        for k, (a, b) in enumerate(zip(feet.tolist(), last.tolist()))
    ]
    return lines
