"""Ants that are far from walls are stepped without them: the same bits as with them."""

import numpy as np
import pytest

from cairn.envs.physics.engine import CpuEngine
from cairn.envs.physics.model import load_model, make_task
from cairn.envs.physics.walls import ROOM, Walls


@pytest.fixture
def engines(way):
    """The ant maze twice, looking for walls everywhere and where they may be."""
    task = make_task("AntObstacles-v0", {})
    made = []
    for walls in ((), task.aside):
        model, pairs = load_model(task)
        made.append(CpuEngine([model] * LANES, pairs, ("cfrc_ext",), 5, 2, walls=walls))
    yield made
    for engine in made:
        engine.close()


LANES = 12


def starts(engine, places, speeds=0.0):
    qpos = np.tile(engine.models[0].qpos0, (LANES, 1))
    qpos[:, :2] = places
    qvel = np.zeros((LANES, engine.models[0].nv))
    qvel[:, :2] = speeds
    return np.arange(LANES), qpos, qvel


def same(everywhere, nearby):
    assert np.array_equal(everywhere.states, nearby.states)
    assert np.array_equal(everywhere.fields, nearby.fields) and np.array_equal(everywhere.touching, nearby.touching)
    assert np.array_equal(everywhere.unstable(), nearby.unstable())


def test_the_bits_are_the_same_near_walls_and_far_from_them(engines):
    rng, looked = np.random.default_rng(0), []
    # On open ground, at a wall, and at the edge of what is near.
    places = np.array([[0, 0], [-28.4, -25], [25, 25], [-27.3, -25], [-26.9, -25], [10.9, -5]] * 2, np.float64)
    for engine in engines:
        engine.start(*starts(engine, places))
    walls = engines[1]._walls
    touched = np.zeros(LANES, bool)
    names = engines[1].pairs.names
    wall = np.array([any("wall" in name for name in pair) for pair in names])
    for step, control in enumerate(np.repeat(rng.uniform(-1, 1, (12, LANES, 8)), 10, axis=0)):
        looked.append(walls.near(engines[1].now.qpos[:, :2]))
        for engine in engines:
            engine.step(control, np.arange(1, LANES) if step % 7 == 3 else None)
        same(*engines)
        touched |= engines[1].touching[:, wall].any(-1)
    assert touched.any() and not np.all(looked) and np.any(looked)


def test_who_is_faster_than_the_room_is_stepped_with_walls(engines):
    """At 120 m/s towards a wall 2.5 m away: far from it before a step, and at it in the midst of the step."""
    for engine in engines:
        engine.start(*starts(engine, np.tile([-27.2, 30.0], (LANES, 1)), np.tile([-120.0, 0.0], (LANES, 1))))
    assert not engines[1]._walls.near(engines[1].now.qpos[:, :2]).any()
    for _ in range(4):
        for engine in engines:
            engine.step(np.zeros((LANES, 8)))
        same(*engines)


def test_a_simulation_that_breaks_down_far_from_walls_is_told_once(engines):
    for engine in engines:
        lanes, qpos, qvel = starts(engine, np.zeros((LANES, 2)))
        qvel[3] = 1e9
        engine.start(lanes, qpos, qvel)
        engine.step(np.zeros((LANES, 8)))
    same(*engines)
    assert engines[1].unstable().tolist() == [lane == 3 for lane in range(LANES)]
    for engine in engines:
        engine.step(np.zeros((LANES, 8)))
    same(*engines)


def test_what_is_near_by_hand():
    model, _ = load_model(make_task("AntObstacles-v0", {}))
    walls = Walls(model, ("wall_west", "wall_lower"))
    assert 0.8 < walls.reach < 1.3  # the legs are .2, .2 and .4 long along x and y, .08 thick
    least = walls.reach + float(model.geom_margin.max()) + ROOM
    edge = -29.7 + least  # of what is near the west wall
    places = np.array([[edge - 0.01, 0], [edge + 0.01, 0], [-3, -15], [-3, -15.29 - least], [30, 0], [np.nan, 0]])
    assert walls.near(places).tolist() == [True, False, True, True, False, True]


def test_the_model_is_as_it_was(engines):
    model = engines[1].models[0]
    before = model.geom_contype.copy(), model.geom_conaffinity.copy(), model.opt.disableflags
    with pytest.raises(KeyError), engines[1]._walls.hidden():
        assert model.geom_contype.sum() == before[0].sum() - 7
        raise KeyError
    assert np.array_equal(model.geom_contype, before[0]) and np.array_equal(model.geom_conaffinity, before[1])
    assert model.opt.disableflags == before[2]


def test_other_models_are_refused():
    model, _ = load_model(make_task("AntObstacles-v0", {}))
    with pytest.raises(ValueError, match="no box"):
        Walls(model, ("wall_west", "floor"))
    with pytest.raises(ValueError, match="no box"):
        Walls(model, ("nowhere",))
    cheetah, _ = load_model(make_task("HalfCheetah-v5", {}))
    with pytest.raises(ValueError, match="free joint"):
        Walls(cheetah, ())


def test_the_model_of_each_environment_has_its_walls_looked_for():
    task = make_task("AntObstacles-v0", {})
    model, pairs = load_model(task)
    engine = CpuEngine([model, load_model(task)[0]], pairs, (), 1, 1, walls=task.aside)
    assert engine._walls is None  # they may differ in what is hidden
    engine.close()
