"""Machines over batches: as over single environments, with labels of grids and of MuJoCo, learned by PPO; pictures."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import cairn  # noqa: F401
from cairn.agents import DQN, PPO, SAC
from cairn.envs.tabular import TabularBatch, TabularEnv, office, policy_return, value_iteration
from cairn.envs.tabular.labelled import OFFICE_PROPOSITIONS, OFFICE_TASKS
from cairn.shaping import (
    CounterfactualMachine,
    MachineBatch,
    MachineEnv,
    MachinePotential,
    MachineReward,
    RewardMachine,
    Stretch,
    World,
    check_potential,
    ltl_machine,
    machine_mdp,
)
from cairn.shaping import machine_picture as picture
from cairn.shaping.labels import at, at_cell, carrying, contact, door, facing, in_room, past, upright
from cairn.shaping.stretch import FactError


def office_machine() -> RewardMachine:
    tasks = [RewardMachine.of_task(task, OFFICE_PROPOSITIONS) for task in OFFICE_TASKS.values()]
    return RewardMachine.in_turn(tasks, list(OFFICE_TASKS))


def test_a_batch_is_the_single_environments() -> None:
    """Lane by lane and step by step, ends, true last observations and turns of tasks included."""
    machine, lanes = office_machine(), 3
    batch = MachineEnv(TabularBatch(office(max_steps=60), lanes), machine)
    assert isinstance(batch, MachineBatch)
    singles = [MachineEnv(TabularEnv(office(max_steps=60)), machine) for _ in range(lanes)]
    obs, _ = batch.reset(seed=0)
    assert obs.tolist() == [int(env.reset(seed=0)[0]) for env in singles]
    rng, ended, cut = np.random.default_rng(0), 0, 0
    for _ in range(400):
        actions = rng.integers(0, 4, lanes)
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(actions))
        for i, env in enumerate(singles):
            o, r, term, trunc, own = env.step(int(actions[i]))
            assert (float(reward[i]), bool(terminated[i])) == (r, term)
            assert bool(truncated[i]) == (trunc and not term)
            facts = info["final_facts"]
            assert (
                int(facts["machine"][i]) == own["facts"]["machine"]
                and int(facts["letter"][i]) == own["facts"]["letter"]
            )
            if term or trunc:
                ended, cut = ended + term, cut + trunc
                assert int(info["final_obs"][i]) == int(o) and bool(info["_final_obs"][i])
                o, _ = env.reset()
            assert int(obs[i]) == int(o)
    assert ended > 20 and cut > 3


def test_state_in_and_out() -> None:
    def fresh() -> Any:
        return MachineEnv(TabularBatch(office(), 4), office_machine())

    env, again, rng = fresh(), fresh(), torch.Generator().manual_seed(0)
    env.reset(seed=1)
    actions = torch.randint(4, (200, 4), generator=rng)
    for t in range(100):
        env.step(actions[t])
    again.reset(seed=5)
    again.load_state_dict(env.state_dict())
    for t in range(100, 200):
        assert all(torch.equal(a, b) for a, b in zip(env.step(actions[t])[:4], again.step(actions[t])[:4]))
    bad = env.state_dict()
    bad["own"]["machine"] = bad["own"]["machine"] + 100
    with pytest.raises(ValueError, match="go beyond the machine's 20"):
        again.load_state_dict(bad)


def test_the_exact_mdp_is_that_of_the_tabular_tasks() -> None:
    for name, task in OFFICE_TASKS.items():
        whole = machine_mdp(office(), RewardMachine.of_task(task, OFFICE_PROPOSITIONS))
        other = office(name).mdp
        best, known = value_iteration(whole), value_iteration(other)
        assert float((whole.start * best.values).sum()) == pytest.approx(float((other.start * known.values).sum()))
        assert float(policy_return(whole, best.policy)) == pytest.approx(float(policy_return(other, known.policy)))


def test_a_formula_is_the_task_it_says() -> None:
    """Coffee, then the office, and no plant: the paper's first task, from text."""
    labels: dict[str, Any] = {name: ("events", i) for i, name in enumerate(OFFICE_PROPOSITIONS)}
    formula = ltl_machine("!plant U (coffee & !plant & X (!plant U (office & !plant)))", labels)
    task = RewardMachine.of_task(OFFICE_TASKS["coffee"], OFFICE_PROPOSITIONS)
    one, other = (value_iteration(machine_mdp(office(), m)) for m in (formula, task))
    start = int(office().mdp.start.argmax())
    assert float(one.values[start * len(formula)]) == pytest.approx(float(other.values[start * len(task)]))


def test_grid_labels() -> None:
    env = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=16, facts=["objects", "doors", "room"])
    _, info = env.reset(seed=0)
    labels = {
        "key": carrying("key"),
        "any": carrying(color="yellow"),
        "open": door(),
        "locked": door("locked", "yellow"),
    }
    held = {name: label(info["facts"]) for name, label in labels.items()}
    assert not held["key"].any() and held["locked"].all() and not held["open"].any()
    generator, seen = torch.Generator().manual_seed(0), {name: False for name in (*labels, "facing", "goal", "room")}
    from cairn.envs.grid import layout

    for _ in range(1500):
        _, _, _, _, info = env.step(torch.randint(6, (16,), generator=generator))
        facts, last = info["facts"], info["final_facts"]
        done = info["_final_obs"]
        picked = (facts["events"] & layout.PICKED) != 0
        assert labels["key"](facts)[picked].all() and torch.equal(labels["key"](facts), labels["any"](facts))
        opened = (facts["events"] & (layout.UNLOCKED | layout.OPENED)) != 0
        assert labels["open"](facts)[opened].all()
        assert torch.equal(at("goal")(last)[done & last["success"]], torch.ones_like(done)[done & last["success"]])
        x, y = facts["position"][0].tolist()
        assert bool(at_cell(x, y)(facts)[0])
        now = {name: label(facts) for name, label in labels.items()}
        now |= {"facing": facing("key")(facts), "goal": at("goal")(last)[done], "room": in_room(0)(facts)}
        seen = {name: seen[name] or bool(value.any()) for name, value in now.items()}
    assert all(seen.values()), seen
    with pytest.raises(FactError, match=r'facts=\["doors"\]'):
        door()({"position": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="no colour"):
        carrying("key", "mauve")


def test_facing_by_hand() -> None:
    objects = torch.full((4, 5, 6, 2), -1)
    objects[:, 1, 4] = torch.tensor([3, 2])  # a yellow key
    facts = {
        "objects": objects,
        "position": torch.tensor([[2, 2], [3, 1], [4, 2], [3, 3]]),
        "direction": torch.arange(4),
    }
    assert facing("key")(facts).all() and facing("key", "yellow")(facts).all() and not facing("key", "red")(facts).any()
    turned = {**facts, "direction": torch.tensor([1, 2, 3, 0])}
    assert not facing("key")(turned).any() and not facing("ball")(facts).any()


def test_mujoco_labels() -> None:
    qpos = torch.zeros(4, 9)
    qpos[:, 0], qpos[:, 2] = torch.tensor([0.0, 1.5, 2.5, 9.0]), torch.tensor([0.1, -0.6, 6.3, 3.1])
    facts = {
        "qpos": qpos,
        "feet": torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]]).bool(),
        "touching": torch.eye(4).bool(),
    }
    assert past(2.0)(facts).tolist() == [False, False, True, True]
    assert upright(0.5)(facts).tolist() == [True, False, True, False]
    assert contact()(facts).tolist() == [False, True, True, True] and contact(2)(facts).tolist() == [
        False,
        False,
        True,
        False,
    ]
    half = np.sin(np.array([0.0, 0.2, 0.6, 1.5]) / 2)
    free = torch.zeros(4, 15, dtype=torch.float64)
    free[:, 3], free[:, 4] = torch.from_numpy(np.sqrt(1 - half**2)), torch.from_numpy(half)
    assert upright(0.5, root="free")({"qpos": free}).tolist() == [True, True, False, False]
    env = gym.make_vec("cairn/Ant-v5", num_envs=2)
    _, info = env.reset(seed=0)
    assert upright(0.5, root="free")(info["facts"]).all() and not past(3.0)(info["facts"]).any()


def door_key() -> RewardMachine:
    return ltl_machine("F (key & F (open & F goal))", {"key": carrying("key"), "open": door(), "goal": at("goal")})


def cheetah() -> RewardMachine:
    """Forth past x = 0.1, then back: pays on the way, and for ever."""
    edges = [("out", "far", "back", 1.0), ("back", "!far", "out", 10.0)]
    return RewardMachine(edges, {"far": past(0.1)})


def there_and_away() -> RewardMachine:
    """Take the key, then put it away: over as soon as it is gone."""
    edges = [("seek", "key", "hold", 1.0), ("hold", "!key", "done", 2.0)]
    return RewardMachine(edges, {"key": carrying("key")}, final=["done"])


@pytest.mark.parametrize("world", ["grid", "mujoco"])
def test_counterfactuals_of_deep_agents_over_facts(world: str) -> None:
    """DQN over a grid's facts and SAC over MuJoCo's: every row sampled is what the machine says of the lived step."""
    grid = world == "grid"
    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0" if grid else "cairn/HalfCheetah-v5", num_envs=4)
    machine = there_and_away() if grid else cheetah()
    crm = CounterfactualMachine(machine)
    settings: dict[str, Any] = {"learning_starts": 400, "buffer_size": 2000, "batch_size": 8, "seed": 0}
    agent, policy = (DQN, "MultiInputPolicy") if grid else (SAC, "MlpPolicy")
    model = agent(policy, MachineEnv(envs, machine), experience=crm, **settings).learn(600)
    replay = model.replay_buffer
    at, lane = replay.draw(200)
    x = replay.rows(at, lane)
    y, origin = crm(x)
    before, after = crm.read(y.obs), crm.read(y.next_obs)
    open_states = (~machine.final).nonzero()[:, 0]
    assert torch.equal(before, open_states.repeat_interleave(200)) and len(y.reward) == 200 * len(open_states)
    letter = machine.letters(x.next_facts)[origin]
    assert len(letter.unique()) > 1, "a walk at random shows the machine more than one letter"
    assert torch.equal(after, machine.target[before, letter]) and torch.equal(y.reward, machine.reward[before, letter])
    assert torch.equal(y.terminated, machine.final[after]) and bool(y.terminated.any()) == grid  # no end but its own
    lived = before == crm.read(x.obs)[origin]
    assert int(lived.sum()) == 200 and torch.equal(y.reward[lived], x.reward[origin][lived])
    assert torch.equal(y.terminated[lived], x.terminated[origin][lived])


def test_ppo_on_minigrid_with_the_machine_in_the_observation_and_as_a_term() -> None:
    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=8, facts=["objects", "doors"])
    shown = MachineEnv(envs, door_key())
    assert shown.single_observation_space["machine"].shape == (len(door_key()),)
    model = PPO("MlpPolicy", shown, n_steps=16, batch_size=64, n_epochs=1, seed=0)
    model.learn(256)
    assert shown.observation_space["machine"].contains(shown.observe()[0]["machine"].numpy())
    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=8, facts=["objects", "doors"])
    PPO("MlpPolicy", envs, n_steps=16, batch_size=64, n_epochs=1, seed=0, reward=MachineReward(door_key())).learn(256)


def test_machine_potentials() -> None:
    """V by hand on two steps; with +V standing still costs, and with -V it pays."""
    edges = [("u", "a", "v", 0.0), ("u", "!a", "u", 0.0), ("v", "a", "w", 1.0), ("v", "!a", "v", 0.0)]
    machine = RewardMachine(edges, {"a": "x"}, final=["w"])
    assert machine.values(0.9).tolist() == pytest.approx([0.9, 1.0, 0.0])
    state, after = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    x = Stretch.make(
        obs=torch.zeros(3, 1), next_obs=torch.zeros(3, 1), reward=torch.zeros(3),
        terminated=torch.tensor([False, False, True]), facts={"machine": state}, next_facts={"machine": after},
    )  # fmt: skip
    for sign, by_hand in ((1, [-0.09, 0.0, -1.0]), (-1, [0.09, 0.0, 1.0])):
        term = MachinePotential(machine, sign=sign)
        term.bind(World(gym.spaces.Discrete(2), gym.spaces.Discrete(2), gamma=0.9))
        assert term.score(x).tolist() == pytest.approx(by_hand, abs=1e-6)
    check_potential(lambda: MachinePotential.examples()[0])
    with pytest.raises(ValueError, match="sign=2"):
        MachinePotential(machine, sign=2)
    with pytest.raises(ValueError, match="below 1"):
        machine.values(1.0)


def test_values_of_a_machine_that_pays_on_the_way() -> None:
    machine = RewardMachine([("u", "a", "v", 0.5), ("v", "a", "u", 0.25)], {"a": "x"})
    exact = (0.5 + 0.8 * 0.25) / (1 - 0.8**2)
    assert machine.values(0.8)[0] == pytest.approx(exact)


@pytest.mark.parametrize("name", OFFICE_TASKS)
def test_pictures_of_the_office_tasks_have_nothing_in_the_way(name: str, tmp_path: Any) -> None:
    machine = RewardMachine.of_task(OFFICE_TASKS[name], OFFICE_PROPOSITIONS)
    seen: dict[str, Any] = {}
    place = picture._labels

    def spy(places: Any, texts: Any) -> Any:
        out = place(places, texts)
        seen.update(places=dict(places), boxes=out[0])
        return out

    picture._labels = spy
    try:
        figure = picture.draw(machine, str(tmp_path / "machine.png"), title=name)
    finally:
        picture._labels = place
    assert (tmp_path / "machine.png").stat().st_size > 5000
    # What matplotlib drew, in pixels: no label on another, nor on a state.
    axes = figure.axes[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [t.get_window_extent(renderer) for t in axes.texts if t.get_text() and t.get_text() not in machine.states]
    states = [p.get_window_extent(renderer) for p in axes.patches if type(p).__name__ == "Circle"]
    assert len(boxes) == len({(u, v) for u, _, v, _ in machine.edges}) and len(states) >= len(machine)
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[:i]) and not any(a.overlaps(s) for s in states)


def test_undefined_transitions_are_errors() -> None:
    with pytest.raises(ValueError, match="no transition at all from 'v'"):
        RewardMachine([("u", "a", "v", 0)], {"a": "x"})
    with pytest.raises(ValueError, match="no transition from 'u' at {!a}"):
        RewardMachine.of_tables(["u"], torch.tensor([[-1, 0]]), torch.zeros(1, 2), {"a": "x"}, torch.tensor([False]))
    with pytest.raises(ValueError, match="want"):
        RewardMachine.of_tables(["u"], torch.zeros(1, 4), torch.zeros(1, 2), {"a": "x"}, torch.tensor([False]))
    machine = RewardMachine([("u", "a", "v", 1)], {"a": "x", "b": "y"}, final=["v"], otherwise="fail")
    assert machine.states == ["u", "v", "failed"] and machine.pairs == [(0, 1)]
    assert machine.target[0].tolist() == [2, 1, 2, 1] and machine.final.tolist() == [False, True, True]
    assert sorted(machine.edges) == [("u", "!a", "failed", 0.0), ("u", "a", "v", 1.0)]
