"""The memory of ``MjData`` against MuJoCo's own functions, and models for which these have to do."""

import mujoco
import numpy as np
import pytest

from cairn.envs.physics.engine import CpuEngine
from cairn.envs.physics.mjdata import SLOTS, STATE, state_image
from cairn.envs.physics.model import contact_pairs, load_model, make_task

EQUALITY = """
<mujoco><option timestep="0.01"/><worldbody>
  <geom name="floor" type="plane" size="2 2 .1"/>
  <body pos="0 0 .3"><joint name="z" type="slide" axis="0 0 1"/><joint name="y" type="hinge" axis="0 1 0"/>
    <geom name="box" type="box" size=".2 .1 .1"/></body>
</worldbody><actuator><general joint="y" dyntype="integrator" ctrlrange="-1 1" gear="3"/></actuator>
<equality><joint joint1="y" polycoef="0.1 0 0 0 0" solref="0.5 1"/></equality></mujoco>"""


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "PointMaze_UMaze-v3"])
def test_an_image_is_the_state(name):
    model, _ = load_model(make_task(name, {}))
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    image, index = state_image(model, data)
    state = np.zeros(mujoco.mj_stateSize(model, STATE))
    data.ctrl[:] = rng.uniform(-1, 1, model.nu)
    data.xfrc_applied[:] = rng.standard_normal(data.xfrc_applied.shape)
    mujoco.mj_step(model, data, 3)
    mujoco.mj_getState(model, data, state, STATE)
    assert np.array_equal(image[index], state[1:]) and data.time == state[0] and np.abs(state).max() > 1
    image[index] = other = rng.standard_normal(len(index))
    assert np.array_equal(data.qvel, other[model.nq : model.nq + model.nv])


def step_by_step(model, pairs, states, controls):
    """Each environment's states in a ``MjData`` of its own, and the pairs that touch at the end."""
    touching = np.zeros((len(states), len(pairs.geoms)), np.bool_)
    out = np.zeros_like(states)
    for lane, state in enumerate(states):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, state, STATE)
        for row in controls:
            data.ctrl[:] = row[lane]
            mujoco.mj_step(model, data, 2)
        mujoco.mj_getState(model, data, out[lane], STATE)
        for one in data.contact:
            touching[lane, pairs.table[one.geom[0], one.geom[1]]] = True
    return out, touching


def test_a_model_with_equalities_has_none_and_steps_all_the_same():
    model = mujoco.MjModel.from_xml_string(EQUALITY)
    assert state_image(model, mujoco.MjData(model)) is None
    pairs, rng = contact_pairs(model, ()), np.random.default_rng(0)
    engine = CpuEngine([model] * 20, pairs, (), 2, 2)
    engine.start(np.arange(20), rng.uniform(-0.2, 0.2, (20, 2)), rng.standard_normal((20, 2)))
    states, controls = engine.states, rng.uniform(-1, 1, (15, 20, 1))
    for row in controls:
        engine.step(row)
    expected, touching = step_by_step(model, pairs, states, controls)
    assert np.array_equal(engine.states, expected) and np.array_equal(engine.touching, touching)
    assert touching.any() and engine.states[:, 0].min() > 0.29
    engine.load_states(states)
    for row in controls:
        engine.step(row)
    assert np.array_equal(engine.states, expected)
    engine.close()


def test_many_contacts_and_few():
    """A humanoid that lies down has more contacts than are read at once."""
    task = make_task("HumanoidStandup-v5", {})
    model, pairs = load_model(task)
    rng, n = np.random.default_rng(0), 24
    engine = CpuEngine([model] * n, pairs, task.reads, 2, 2)
    starts = [task.start(rng) for _ in range(n)]
    qpos = np.stack([q for q, _ in starts])
    qpos[:8, 2] += 3.0  # these fall, and touch nothing but themselves
    engine.start(np.arange(n), qpos, np.stack([v for _, v in starts]))
    states, controls = engine.states, rng.uniform(-0.4, 0.4, (12, n, model.nu))
    many = few = False
    for t, row in enumerate(controls):
        engine.step(row)
        if t in (3, 11):
            expected, touching = step_by_step(model, pairs, states, controls[: t + 1])
            assert np.array_equal(engine.states, expected) and np.array_equal(engine.touching, touching)
            counts = touching.sum(axis=1)
            many, few = many or counts.max() > SLOTS // 2, few or 0 < counts.min() < SLOTS
    assert any(worker.contacts.take is not None for worker in engine._workers)
    assert many
    engine.close()


def test_a_breakdown_is_found_in_the_quick_step():
    model, pairs = load_model(make_task("HalfCheetah-v5", {}))
    engine, calm = (CpuEngine([model] * 12, pairs, (), 5, 1) for _ in range(2))
    rng = np.random.default_rng(0)
    qpos, qvel = rng.uniform(-0.1, 0.1, (12, 9)), rng.standard_normal((12, 9))
    for each in (engine, calm):
        each.start(np.arange(12), qpos, qvel)
    states = engine.states
    states[4, 12] = 1e14
    engine.load_states(states)
    ctrl = np.zeros((12, 6))
    engine.step(ctrl)
    calm.step(ctrl)
    assert np.flatnonzero(engine.unstable()).tolist() == [4] and not calm.unstable().any()
    others = np.arange(12) != 4
    assert np.array_equal(engine.states[others], calm.states[others])
    assert np.array_equal(engine.touching[others], calm.touching[others])
