"""Descriptors, traps and poses against states made by hand."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.physics.ids import AREA_TASKS, DESCRIPTOR_TASKS, POSE_TASKS, SPARSE_TASKS, V5_TASKS


def stepped(batch, steps, seed=0):
    batch.reset(seed=seed)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        yield batch.step(rng.uniform(-1, 1, batch.action_space.shape).astype(np.float32) * batch.action_space.high)


@pytest.mark.parametrize("name", ["Ant", "Humanoid"])
def test_omni_leaves_out_the_forward_part(name):
    omni, dense = gym.make_vec(f"cairn/{name}Omni-v0", num_envs=3), gym.make_vec(f"cairn/{name}-v5", num_envs=3)
    for mine, theirs in zip(stepped(omni, 40), stepped(dense, 40)):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[2], theirs[2])
        expected = theirs[4]["task_reward"] - theirs[4]["reward_forward"]
        assert torch.equal(mine[4]["task_reward"], expected) and mine[4]["reward_forward"].any()
        facts = mine[4]["final_facts"]
        assert torch.equal(facts["descriptor"], facts["qpos"][:, :2].clamp(-30, 30)) and "success" not in facts
    assert omni.descriptor_bounds.tolist() == [[-30, -30], [30, 30]]
    omni.set_state([1], [[50.0, -40.0, *omni.model.qpos0[2:]]], [np.zeros(omni.model.nv)])
    assert omni.observe()[1]["facts"]["descriptor"][1].tolist() == [30, -30]


@pytest.mark.parametrize("name", ["Ant", "HalfCheetah", "Hopper", "Humanoid", "Walker2d"])
def test_uni_counts_the_feet(name):
    uni, dense = gym.make_vec(f"cairn/{name}Uni-v0", num_envs=4), gym.make_vec(f"cairn/{name}-v5", num_envs=4)
    uni_steps, dense_steps = stepped(uni, 80), stepped(dense, 80)
    feet = len(uni.task.feet)
    _, info = uni.reset(seed=0)
    history = [[row] for row in info["facts"]["feet"].double()]  # of each lane, one row for each state so far
    seen = 0.0
    for mine, theirs in zip(uni_steps, dense_steps):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
        info = mine[4]
        for lane in range(4):
            expected = torch.stack(history[lane]).mean(0)
            got = info["final_facts"]["descriptor"][lane]
            assert got.shape == (feet,) and torch.allclose(got, expected), (lane, got, expected)
            seen = max(seen, float(got.max()))
            if info["_final_obs"][lane]:
                history[lane] = []
                assert not info["facts"]["descriptor"][lane].any() and info["facts"]["steps"][lane] == 0
            history[lane].append(info["facts"]["feet"][lane].double())
    assert seen > 0.05
    assert uni.descriptor_bounds.tolist() == [[0.0] * feet, [1.0] * feet]


def test_the_traps_stand_in_the_way():
    for name, front, end, side in (("Ant", 11.4, 12.5, 3.0), ("Humanoid", 5.3, 5.6, 1.5)):
        batch = gym.make_vec(f"cairn/{name}Trap-v0", num_envs=2)
        obs, info = batch.reset(seed=0)
        assert torch.allclose(obs[:, 0], info["facts"]["qpos"][:, 0] / 15 - 1)
        assert torch.allclose(obs[:, 1], info["facts"]["qpos"][:, 1] / 8)
        assert torch.equal(obs[0, 2:], gym.make_vec(f"cairn/{name}-v5", num_envs=2).reset(seed=0)[0][0])
        up = float(batch.model.qpos0[2])
        walls = [i for i, pair in enumerate(batch.touching_names) if any(part.startswith("trap_") for part in pair)]
        assert {part for i in walls for part in batch.touching_names[i] if part.startswith("trap_")} == {
            "trap_front", "trap_left", "trap_right"
        }  # fmt: skip

        def at(x, y, batch=batch, up=up):
            qpos = batch.model.qpos0.copy()
            qpos[:3] = x, y, up
            batch.set_state([0], [qpos], [np.zeros(batch.model.nv)])
            return batch.observe()[1]["facts"]

        low = 0.5 if name == "Ant" else up
        for x, y, meets in ((front, 0, "trap_front"), (end - 2, side, "trap_left"), (end - 2, -side, "trap_right")):
            qpos = batch.model.qpos0.copy()
            qpos[:3] = x, y, low
            batch.set_state([0], [qpos], [np.zeros(batch.model.nv)])
            touched = batch.observe()[1]["facts"]["touching"][0].nonzero()[:, 0].tolist()
            assert any(meets in batch.touching_names[i] for i in touched), (name, meets)
        inside = at(front - 2.5, 0)
        assert not inside["touching"][0][walls].any()
        for x, success in ((end - 0.1, False), (end + 0.1, True), (-1.0, False)):
            facts = at(x, 6.0)
            assert bool(facts["success"][0]) == success
            assert float(facts["distance"][0]) == pytest.approx(max(0.0, end - x))
            assert facts["descriptor"][0].tolist() == [max(x, 0.0), 6.0]


def test_the_walls_of_the_traps_by_hand():
    """Where each wall begins and ends along x and y, and how high it is, m."""
    walls = {
        "Ant": {"trap_front": (11.5, 12.5, -2.5, 2.5, 1.0), "trap_left": (6.5, 12.5, 2.5, 3.5, 1.0),
                "trap_right": (6.5, 12.5, -3.5, -2.5, 1.0)},
        "Humanoid": {"trap_front": (5.4, 5.6, -1.5, 1.5, 2.0), "trap_left": (2.5, 5.5, 1.4, 1.6, 2.0),
                     "trap_right": (2.5, 5.5, -1.6, -1.4, 2.0)},
    }  # fmt: skip
    for name, expected in walls.items():
        model = gym.make_vec(f"cairn/{name}Trap-v0", num_envs=1).model
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        for wall, limits in expected.items():
            geom, place = model.geom(wall), data.geom(wall)
            turn = np.abs(place.xmat.reshape(3, 3))
            if geom.type[0] == mujoco.mjtGeom.mjGEOM_CAPSULE:
                half = geom.size[0] + turn[:, 2] * geom.size[1]
            else:
                half = turn @ geom.size
            low, high = place.xpos - half, place.xpos + half
            np.testing.assert_allclose([low[0], high[0], low[1], high[1], high[2]], limits, atol=1e-9)


def test_a_trap_holds_who_runs_into_it():
    """A humanoid thrown at the wall of the trap stays in it; beside the trap it passes."""
    batch = gym.make_vec("cairn/HumanoidTrap-v0", num_envs=2, terminate_when_unhealthy=False)
    batch.reset(seed=0)
    qpos = np.stack([batch.model.qpos0] * 2)
    qpos[:, 0] = 3.5
    qpos[1, 1] = 4.0
    qvel = np.zeros((2, batch.model.nv))
    qvel[:, 0] = 8.0
    batch.set_state([0, 1], qpos, qvel)
    for _ in range(60):
        info = batch.step(torch.zeros(2, 17))[-1]
    assert info["facts"]["success"].tolist() == [False, True]


def test_rewards_of_the_traps_are_those_of_the_bodies():
    for name in ("Ant", "Humanoid"):
        trap, dense = gym.make_vec(f"cairn/{name}Trap-v0", num_envs=2), gym.make_vec(f"cairn/{name}-v5", num_envs=2)
        for mine, theirs in zip(stepped(trap, 20), stepped(dense, 20)):
            assert torch.equal(mine[1], theirs[1])


# Joint angles in degrees. The first number is the height of the torso's middle.
POSES = {
    "Stand": (1.293, {}),
    "Kneel": (0.93, {"right_knee": -90, "left_knee": -90}),
    "Splits": (0.54, {"right_hip_y": -90, "left_hip_y": -90, "right_hip_z": -60, "left_hip_z": -60}),
    "ArmsRaised": (1.293, {
        "right_shoulder1": -85, "left_shoulder1": 85, "right_shoulder2": 25, "left_shoulder2": -25,
        "right_elbow": -90, "left_elbow": -90,
    }),
    "OneLeg": (1.293, {"right_hip_y": -60, "right_knee": -90}),
}  # fmt: skip


def posed(batch, height, angles, lean=0.0):
    """Put lane 0 into a pose at rest, leaning forward by some degrees, and return its score."""
    model = batch.model
    qpos = model.qpos0.copy()
    qpos[2] = height
    qpos[3:7] = [np.cos(np.radians(lean) / 2), 0, np.sin(np.radians(lean) / 2), 0]
    for name, angle in angles.items():
        joint = model.joint(name)
        low, high = np.degrees(joint.range)
        assert low - 1e-6 <= angle <= high + 1e-6, (name, angle, low, high)
        qpos[joint.qposadr[0]] = np.radians(angle)
    batch.set_state([0], [qpos], [np.zeros(model.nv)])
    facts = batch.observe()[1]["facts"]
    assert bool(facts["success"][0]) == (float(facts["score"][0]) >= 0.8)
    return float(facts["score"][0])


@pytest.fixture(scope="module")
def scored():
    batches = {name: gym.make_vec(f"cairn/Humanoid{name}-v0", num_envs=1) for name in POSES if name != "Stand"}
    for batch in batches.values():
        batch.reset(seed=0)
    return batches


def test_each_pose_has_its_own_score(scored):
    for pose, (height, angles) in POSES.items():
        for name, batch in scored.items():
            score = posed(batch, height, angles)
            assert score > 0.95 if name == pose else score < 0.05, (pose, name, score)
    for name, batch in scored.items():
        assert posed(batch, *POSES[name], lean=90) == 0, name  # lying on the face
        assert posed(batch, 3 * POSES[name][0], POSES[name][1]) < 0.05, name  # in the air


def test_poses_have_no_side(scored):
    other = {"left_hip_y": -60, "left_knee": -90}
    assert posed(scored["OneLeg"], 1.293, other) == pytest.approx(posed(scored["OneLeg"], *POSES["OneLeg"]), abs=0.02)
    one_arm = {name: angle for name, angle in POSES["ArmsRaised"][1].items() if name.startswith("left")}
    assert posed(scored["ArmsRaised"], 1.293, one_arm) == 0
    assert posed(scored["Kneel"], 0.93, {"right_knee": -90, "left_hip_y": -90, "left_knee": -90}) == 0  # one knee up


def test_scores_by_hand(scored):
    # The pelvis' middle is 0.425 m below the torso's (the waist is bent by 0.002 of a quaternion, nothing to see).
    batch = scored["OneLeg"]
    for bend in (20, 30, 40):
        got = posed(batch, 1.293, {"right_hip_y": -bend, "right_knee": -bend})
        data = mujoco.MjData(batch.model)
        batch.engine.give(0, data)
        lift = data.geom("right_foot").xpos[2] - data.geom("left_foot").xpos[2]
        assert got == pytest.approx(np.clip((lift - 0.05) / 0.15, 0, 1), abs=1e-9)
    # Leaning: cosine .5 -> 0, .9 -> 1.
    for lean in (30, 40, 50):
        expected = np.clip((np.cos(np.radians(lean)) - 0.5) / 0.4, 0, 1)
        upright = batch.task._upright(batch.engine.now)
        posed(batch, 1.293, {}, lean)
        upright = batch.task._upright(batch.engine.now)
        assert float(upright[0]) == pytest.approx(expected)
    # The thighs of the splits: 60 degrees apart is 0, 120 is 1.
    for half in (30, 45, 60):
        angles = {**POSES["Splits"][1], "right_hip_z": -half, "left_hip_z": -half}
        term = scored["Splits"].task._terms
        posed(scored["Splits"], 0.54, angles)
        thighs = float(term(scored["Splits"].engine.now)[2][0])
        assert thighs == pytest.approx((2 * half - 60) / 60, abs=0.06)  # the thighs are not quite straight
    # A kneeling body that sinks: the pelvis at 0.3 m is half way.
    sunk = posed(scored["Kneel"], 0.3 + 0.425, {"right_knee": -130, "left_knee": -130, "right_hip_y": -20,
                                                "left_hip_y": -20})  # fmt: skip
    terms = scored["Kneel"].task._terms(scored["Kneel"].engine.now)
    assert float(terms[2][0]) == pytest.approx(0.5, abs=0.02) and sunk <= 0.52


def test_rewards_of_poses():
    sparse, dense = (
        gym.make_vec("cairn/HumanoidArmsRaised-v0", num_envs=1, **kw) for kw in ({}, {"reward_type": "dense"})
    )
    for batch in (sparse, dense):
        batch.reset(seed=0)
        posed(batch, *POSES["ArmsRaised"])
        _, reward, terminated, _, info = batch.step(torch.zeros(1, 17))
        score = float(info["facts"]["score"][0])
        assert 0.8 < score <= 1 and float(info["score"][0]) == score
        assert float(reward[0]) == pytest.approx(1.0 if batch is sparse else score)
        posed(batch, 0.2, {}, lean=90)
        _, reward, terminated, _, info = batch.step(torch.zeros(1, 17))
        assert float(reward[0]) == 0 and not terminated.any() and not info["facts"]["success"].any()
    with pytest.raises(ValueError, match="reward_type"):
        gym.make_vec("cairn/HumanoidKneel-v0", num_envs=1, reward_type="silent")
    with pytest.raises(TypeError, match="healthy_reward"):
        gym.make_vec("cairn/HumanoidKneel-v0", num_envs=1, healthy_reward=3.0)


GOALS = {name for name, _ in SPARSE_TASKS + POSE_TASKS + AREA_TASKS} | {
    "Reacher-v5",
    "Pusher-v5",
    "AntTrap-v0",
    "HumanoidTrap-v0",
}


@pytest.mark.parametrize(
    "task", [name for name, _ in V5_TASKS + SPARSE_TASKS + DESCRIPTOR_TASKS + POSE_TASKS + AREA_TASKS]
)
def test_facts_before_and_after(task):
    """Every task has the facts of its body; success and a measure of it where there is a goal, and nowhere else."""
    batch = gym.make_vec(f"cairn/{task}", num_envs=2, max_episode_steps=2)
    _, start = batch.reset(seed=0)
    model, shape = batch.model, {}
    shape = {"qpos": (model.nq,), "qvel": (model.nv,), "xpos": (model.nbody, 3), "unstable": ()}
    shape |= {"touching": (len(batch.touching_pairs),), "feet": (len(batch.task.feet),)}
    last = batch.step(torch.zeros(2, model.nu))[-1]["facts"]
    info = batch.step(torch.zeros(2, model.nu))[-1]
    for facts in (start["facts"], last, info["facts"], info["final_facts"]):
        for name, rest in shape.items():
            assert facts[name].shape == (2, *rest), name
        assert ("success" in facts) == (task in GOALS)
        assert ("distance" in facts or "score" in facts) == (task in GOALS)
        assert ("descriptor" in facts) == (batch.descriptor_bounds is not None)


@pytest.mark.parametrize("task", [name for name, _ in DESCRIPTOR_TASKS + POSE_TASKS + AREA_TASKS])
def test_single_environment_passes_gymnasiums_check(task):
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make(f"cairn/{task}", disable_env_checker=True).unwrapped, skip_render_check=True)
