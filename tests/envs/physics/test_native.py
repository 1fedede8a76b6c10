"""The two ways to visit environments, compiled and in Python, against one ``MjData`` for each environment."""

import mujoco
import numpy as np
import pytest

from cairn.envs.physics import native
from cairn.envs.physics.dynamics import apply, copies
from cairn.envs.physics.engine import CpuEngine
from cairn.envs.physics.loop import Loop
from cairn.envs.physics.model import contact_pairs, load_model, make_task, set_solver
from cairn.envs.physics.native import STATE, Shards

EQUALITY = """
<mujoco><option timestep="0.01"/><worldbody>
  <geom name="floor" type="plane" size="2 2 .1"/>
  <body pos="0 0 .3"><joint name="z" type="slide" axis="0 0 1"/><joint name="y" type="hinge" axis="0 1 0"/>
    <geom name="box" type="box" size=".2 .1 .1"/></body>
</worldbody><actuator><general joint="y" dyntype="integrator" ctrlrange="-1 1" gear="3"/></actuator>
<equality><joint joint1="y" polycoef="0.1 0 0 0 0" solref="0.5 1"/></equality></mujoco>"""
FIELDS = ("qpos", "qvel", "xpos", "cfrc_ext", "cinert", "cvel", "qfrc_actuator", "ctrl")


def make(models, pairs, reads=(), substeps=2, threads=2, kind=None, **kwargs):
    engine = CpuEngine(models, pairs, reads, substeps, threads, **kwargs)
    assert kind is None or type(engine._shards) is kind
    return engine


def alone(models, pairs, states, controls, substeps=2, limit=None):
    """Each environment in a ``MjData`` of its own: its states, fields and the pairs that touch at the end."""
    touching = np.zeros((len(states), len(pairs.geoms)), np.bool_)
    out, fields = np.zeros_like(states), []
    for lane, (model, state) in enumerate(zip(models, states)):
        data = mujoco.MjData(model)
        mujoco.mj_setState(model, data, state, STATE)
        for row in controls:
            if limit is not None:
                data.qvel[:] = np.clip(data.qvel, -limit, limit)
                mujoco.mj_forward(model, data)
            data.ctrl[:] = row[lane]
            mujoco.mj_step(model, data, substeps)
            mujoco.mj_rnePostConstraint(model, data)
        mujoco.mj_getState(model, data, out[lane], STATE)
        fields.append({name: getattr(data, name).copy() for name in FIELDS})
        for one in data.contact:
            touching[lane, pairs.table[one.geom[0], one.geom[1]]] = True
    return out, touching, {name: np.stack([row[name] for row in fields]) for name in FIELDS}


def test_a_model_with_equalities(way):
    model = mujoco.MjModel.from_xml_string(EQUALITY)
    pairs, rng = contact_pairs(model, ()), np.random.default_rng(0)
    engine = make([model] * 20, pairs, kind=way)
    engine.start(np.arange(20), rng.uniform(-0.2, 0.2, (20, 2)), rng.standard_normal((20, 2)))
    states, controls = engine.states, rng.uniform(-1, 1, (15, 20, 1))
    for row in controls:
        engine.step(row)
    expected, touching, _ = alone(engine.models, pairs, states, controls)
    assert np.array_equal(engine.states, expected) and np.array_equal(engine.touching, touching)
    assert touching.any() and engine.states[:, 0].min() > 0.29
    engine.load_states(states)
    engine.close()  # a further step starts the threads again, with the same states
    for row in controls:
        engine.step(row)
    assert np.array_equal(engine.states, expected)
    engine.close()


def test_every_field_and_many_contacts(way):
    """Humanoids, some in the air and some lying, each with masses of its own."""
    task = make_task("HumanoidStandup-v5", {})
    model, pairs = load_model(task)
    rng, n = np.random.default_rng(0), 24
    models = copies(model, n)
    for each in models:
        apply(each, model, rng.uniform(0.8, 1.2, 3))
    engine = make(models, pairs, FIELDS[3:], kind=way)
    starts = [task.start(rng) for _ in range(n)]
    qpos = np.stack([q for q, _ in starts])
    qpos[:8, 2] += 3.0  # these fall, and touch nothing but themselves
    engine.start(np.arange(n), qpos, np.stack([v for _, v in starts]))
    assert not engine.now.cfrc_ext.any()
    states, controls = engine.states, rng.uniform(-0.4, 0.4, (40, n, model.nu))
    for row in controls:
        engine.step(row)
    expected, touching, fields = alone(models, pairs, states, controls)
    assert np.array_equal(engine.states, expected) and np.array_equal(engine.touching, touching)
    for name in FIELDS:
        assert np.array_equal(getattr(engine.now, name), fields[name]), name
    assert touching.sum(axis=1).max() > 2 and not np.array_equal(expected[8], expected[9])
    assert np.abs(fields["cfrc_ext"]).max() > 1

    some = np.array([3, 17])  # a new start of two leaves the others as they are
    engine.start(some, qpos[some], np.zeros((2, model.nv)))
    assert not engine.now.cfrc_ext[some].any() and np.array_equal(engine.now.qpos[some], qpos[some])
    rest = np.setdiff1d(np.arange(n), some)
    assert np.array_equal(engine.states[rest], expected[rest])
    assert np.array_equal(engine.touching[rest], touching[rest])
    assert np.array_equal(engine.now.cfrc_ext[rest], fields["cfrc_ext"][rest])
    engine.close()


def test_a_velocity_limit_before_each_step(way):
    """Upstream computes the forces in between, with the old controls: an ant's contacts would show what that leaves."""
    model, pairs = load_model(make_task("Ant-v5", {}))
    rng, n = np.random.default_rng(0), 18
    engine = make([model] * n, pairs, FIELDS[3:], kind=way, velocity_limit=0.3)
    qpos = np.tile(model.qpos0, (n, 1)) - 0.4 * (np.arange(model.nq) == 2)
    engine.start(np.arange(n), qpos, rng.uniform(-2, 2, (n, model.nv)))
    states, controls = engine.states, rng.uniform(-1, 1, (10, n, model.nu)).astype(np.float32)
    for row in controls:
        engine.step(row)
    expected, touching, fields = alone(engine.models, pairs, states, controls, limit=0.3)
    assert np.array_equal(engine.states, expected) and np.array_equal(engine.touching, touching)
    assert np.array_equal(engine.now.ctrl, fields["ctrl"]) and touching.any()
    engine.close()


def test_a_breakdown_concerns_one_alone(way):
    model, pairs = load_model(make_task("HalfCheetah-v5", {}))
    engine, calm = (make([model] * 12, pairs, (), 5, 1, way) for _ in range(2))
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
    engine.start(np.array([4]), qpos[4:5], qvel[4:5])
    engine.step(ctrl)
    assert not engine.unstable().any()


@pytest.mark.parametrize("solver", ["newton", "cg", "pgs"])
def test_the_two_ways_give_the_same_bits(without_batch_api, solver):
    """The compiled way leaves out islands, Python's does not: an ant has one, which is all of it."""
    task = make_task("Ant-v5", {})
    model, pairs = load_model(task)
    set_solver(model, solver)
    rng, n = np.random.default_rng(0), 30
    engines = [make([model] * n, pairs, task.reads, 5, 3)]
    without_batch_api()
    engines.append(make([model] * n, pairs, task.reads, 5, 3, Loop))
    starts = [task.start(rng) for _ in range(n)]
    for engine in engines:
        engine.start(np.arange(n), np.stack([q for q, _ in starts]), np.stack([v for _, v in starts]))
    moved = np.array([2, 29, 7])
    for t, row in enumerate(rng.uniform(-1, 1, (20, n, model.nu)).astype(np.float32)):
        for engine in engines:
            engine.step(row)
            if t == 10:
                engine.move(moved, engine.now.qpos[moved] + 0.01, engine.now.qvel[moved])
        assert np.array_equal(engines[0].fields, engines[1].fields)
        assert np.array_equal(engines[0].touching, engines[1].touching)
        assert np.array_equal(engines[0].states, engines[1].states)
    assert engines[0].touching.any()
    for engine in engines:
        engine.close()


def test_callbacks_in_python_keep_to_pythons_loop():
    model, pairs = load_model(make_task("HalfCheetah-v5", {}))
    before = make([model] * 3, pairs)
    if type(before._shards) is Loop:
        pytest.skip("there is no other way here")
    heard = []
    mujoco.set_mjcb_passive(lambda m, d: heard.append(d.time))
    try:
        engine = make([model] * 3, pairs, kind=Loop)
        engine.step(np.zeros((3, 6)))
        with pytest.raises(RuntimeError, match="set it before"):
            before.step(np.zeros((3, 6)))
    finally:
        mujoco.set_mjcb_passive(None)
    assert len(heard) == 6
    before.step(np.zeros((3, 6)))


def test_another_mjdata_is_noticed(monkeypatch):
    """Where the layout that is read of ``mjData`` does not agree with a live one, nothing is read by it."""
    offsets = native._offsets()
    if offsets is None or native._library() is None:
        pytest.skip("there is no other way here")
    for name in offsets:
        native._places.cache_clear()
        monkeypatch.setattr(native, "_offsets", lambda name=name: {**offsets, name: offsets[name] + 8})
        assert native._places() is None
        with pytest.raises(NotImplementedError):
            Shards([load_model(make_task("Swimmer-v5", {}))[0]] * 2, 1, ("qpos",), np.zeros((9, 9), np.int64))
    native._places.cache_clear()


class Watched:
    """MuJoCo's library, noting the disable flags with which models are visited; it may fail."""

    def __init__(self, library, models):
        self.library, self.models, self.seen, self.error = library, models, [], None

    def __getattr__(self, name):
        return getattr(self.library, name)

    def mjb_apply(self, *args):
        self.seen.append([model.opt.disableflags for model in self.models])
        if self.error:
            raise self.error
        return self.library.mjb_apply(*args)


@pytest.mark.parametrize(("name", "trees"), [("Ant-v5", 1), ("Pusher-v5", 3)])
def test_islands_are_left_out_of_one_tree_during_visits(name, trees):
    if native._library() is None:
        pytest.skip("this MuJoCo has no batch API")
    model, pairs = load_model(make_task(name, {}))
    own = int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    models = [model, model, *copies(model, 1)]
    models[2].opt.disableflags = own
    engine = make(models, pairs, kind=Shards)
    engine._shards._library = watched = Watched(native._library(), models)
    engine.step(np.zeros((3, model.nu)))
    extra = int(mujoco.mjtDisableBit.mjDSBL_ISLAND) * (trees == 1)
    assert model.ntree == trees and watched.seen == [[extra, extra, own | extra]]
    watched.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        engine.step(np.zeros((3, model.nu)))
    assert [each.opt.disableflags for each in models] == [0, 0, own]


def test_a_solver_that_treats_one_island_otherwise_is_noticed(monkeypatch):
    if native._library() is None:
        pytest.skip("this MuJoCo has no batch API")
    ask, forward = native._one_island_changes_nothing.__wrapped__, mujoco.mj_forward
    assert ask()

    def with_a_scale_of_its_own(model, data):
        forward(model, data)
        data.solver[1].improvement *= 1 + data.nisland

    with monkeypatch.context() as patch:
        patch.setattr(mujoco, "mj_forward", with_a_scale_of_its_own)
        assert not ask()
    monkeypatch.setattr(native, "_NO_ISLANDS", int(mujoco.mjtDisableBit.mjDSBL_WARMSTART))
    assert not ask()


def test_models_that_remember_are_refused():
    model = mujoco.MjModel.from_xml_string(EQUALITY)
    model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    with pytest.raises(ValueError, match="sleep"):
        CpuEngine([model] * 2, contact_pairs(model, ()), (), 1, 1)
