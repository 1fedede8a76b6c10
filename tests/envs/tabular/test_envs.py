"""Tabular worlds as environments: one lane bit for bit a single one, and frequencies those of the MDP."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from cairn.envs import check_batch_env
from cairn.envs.grid.stream import Stream
from cairn.envs.tabular import Scene, TabularBatch, TabularEnv, build, random_mdp
from cairn.envs.tabular.draws import episode_keys, lane_keys, signed, uniform
from cairn.envs.tabular.ids import TABULAR_IDS
from cairn.envs.tabular.line import LineKeyBatch
from cairn.envs.tabular.make import make, make_vec
from cairn.envs.tabular.single import cumulative

IDS = {name: kwargs for name, _, _, kwargs in TABULAR_IDS}


def test_the_draws_are_the_streams():
    keys = lane_keys(2**63 + 5, 3)
    episodes = episode_keys(keys, torch.tensor([0, 1, 7]))
    for lane, episode in ((0, 0), (1, 1), (2, 7)):
        stream = Stream.of(2**63 + 5, lane, episode)
        assert signed(stream.key) == episodes[lane].item()
        for counter in range(1, 5):
            assert uniform(episodes, torch.full((3,), counter))[lane].item() == stream.random()


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_accepts_the_single_one(name):
    check_env(make(**IDS[name], render_mode="rgb_array"))


@pytest.mark.parametrize("name", IDS)
def test_batches_conform(name):
    check_batch_env(lambda n: make_vec(num_envs=n, **IDS[name]))
    check_batch_env(lambda n: make_vec(num_envs=n, max_episode_steps=6, **IDS[name]))


MORE = [{"world": "line_k", "picks": 5, "no_key": 0.1, "noise": 0.1}, {"world": "random", "terminals": 6}]


@pytest.mark.parametrize("kwargs", [*IDS.values(), *MORE], ids=str)
def test_a_lane_is_the_single_environment(kwargs):
    lanes, steps = 4, 70
    batch, cap = make_vec(num_envs=lanes, max_episode_steps=25, **kwargs), {"max_episode_steps": 25}
    singles = [make(**cap, **kwargs) for _ in range(lanes)]
    obs, info = batch.reset(seed=11)
    rng = np.random.default_rng(0)
    for i, env in enumerate(singles):
        first, facts = env.reset(seed=11, options={"lane": i})
        assert np.array_equal(first, obs[i].numpy())
        assert same_facts(facts["facts"], info["facts"], i)
    for _ in range(steps):
        actions = rng.integers(0, batch.single_action_space.n, lanes)
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(actions))
        for i, env in enumerate(singles):
            one, paid, term, trunc, said = env.step(actions[i])
            assert np.float32(paid) == reward[i].item() and term == terminated[i] and trunc == truncated[i]
            if term or trunc:
                assert info["_final_obs"][i]
                assert np.array_equal(one, info["final_obs"][i].numpy())
                assert same_facts(said["facts"], info["final_facts"], i)
                one, said = env.reset()
            assert np.array_equal(one, obs[i].numpy())
            assert same_facts(said["facts"], info["facts"], i)


def same_facts(one, many, lane):
    return set(one) == set(many) and all(np.array_equal(one[k], many[k][lane].numpy()) for k in one)


def test_frequencies_are_the_mdps():
    mdp = random_mdp(5, 2, successors=3, seed=3)
    env = TabularBatch(Scene(mdp, max_steps=20), 400)
    obs, _ = env.reset(seed=1)
    assert torch.allclose(torch.bincount(obs, minlength=5) / 400, mdp.start.float(), atol=0.08)
    counts = torch.zeros(5, 2, 5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        actions = torch.randint(2, (400,), generator=generator)
        after, reward, _, truncated, info = env.step(actions)
        end = torch.where(truncated, info["final_obs"], after)
        assert torch.allclose(reward, mdp.reward[obs, actions, end].float())
        counts.index_put_((obs, actions, end), torch.ones(()), accumulate=True)
        obs = after.clone()
    total = counts.sum(-1, keepdim=True)
    error = (counts / total - mdp.prob).abs() / ((mdp.prob * (1 - mdp.prob)).sqrt() / total.sqrt()).clamp_min(1e-9)
    assert (counts[mdp.prob == 0] == 0).all()
    assert error[mdp.prob > 0].max() < 4.5


def test_lanes_do_not_depend_on_their_number():
    few, many = make_vec("room", 2), make_vec("room", 9)
    few.reset(seed=5), many.reset(seed=5)
    for t in range(60):
        a = few.step(torch.full((2,), t % 4))[0].clone()
        assert torch.equal(a, many.step(torch.full((9,), t % 4))[0][:2])


def test_tasks_come_in_turn():
    env = make_vec("office", 3, task="all", max_episode_steps=2)
    _, info = env.reset(seed=0)
    seen = [info["facts"]["task"].clone()]
    for _ in range(8):
        info = env.step(torch.zeros(3, dtype=torch.int64))[4]
        seen.append(info["facts"]["task"].clone())
    assert torch.stack(seen)[::2, 0].tolist() == [0, 1, 2, 3, 0]


def test_events_are_of_the_cell_entered():
    env = make("office", task="coffee")
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(1)  # (3, 1)
    assert not info["facts"]["events"].any()
    _, reward, terminated, truncated, info = env.step(1)  # (4, 1), a plant
    assert info["facts"]["events"][env.scene.propositions.index("plant")]
    assert terminated and not truncated and reward == 0.0 and not info["facts"]["success"]
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


def test_truncation_is_not_termination():
    env = make("chain", max_episode_steps=3, slip=0.0)
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    out = make("chain", right=1, left=0, slip=0.0, max_episode_steps=1)
    out.reset(seed=0)
    assert out.step(0)[2:4] == (True, False)  # the end comes first
    many = make_vec("chain", 2, right=1, left=0, slip=0.0, max_episode_steps=1)
    many.reset(seed=0)
    _, _, terminated, truncated, _ = many.step(torch.tensor([0, 1]))
    assert terminated.tolist() == [True, False] and truncated.tolist() == [False, True]


def test_rounding_never_picks_the_impossible():
    bounds = cumulative(np.array([[0.1] * 10 + [0.0], [0.0, 1.0] + [0.0] * 9]))
    largest = 1 - 2.0**-53
    assert [np.searchsorted(row, largest, side="right") for row in bounds] == [9, 1]
    assert np.searchsorted(bounds[1], 0.0, side="right") == 1


def test_frames_show_the_agent_where_it_was():
    env = make_vec("office", 2, task="coffee", render_mode="rgb_array")
    env.frame_every = 1
    _, info = env.reset(seed=0)
    start = info["frame"].clone()
    env.step(torch.tensor([1, 0]))
    info = env.step(torch.tensor([1, 0]))[4]
    assert info["_final_frame"].tolist() == [True, False]
    assert torch.equal(info["frame"][0], start[0]) and not torch.equal(info["final_frame"][0], start[0])
    single = make("office", task="coffee", render_mode="rgb_array")
    single.reset(seed=0)
    single.step(1), single.step(1)
    assert np.array_equal(single.render(), info["final_frame"][0].numpy())


def test_state_goes_out_and_in_at_mid_episode():
    one, two = make_vec("line_k", 4, picks=3), make_vec("line_k", 4, picks=3)
    one.reset(seed=2)
    for _ in range(40):
        one.step(torch.tensor([0, 1, 2, 3]))
    two.load_state_dict(one.state_dict())
    for _ in range(40):
        a, b = one.step(torch.tensor([1, 0, 1, 0])), two.step(torch.tensor([1, 0, 1, 0]))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    state = one.state_dict()
    state["x"][1] = 3.0
    with pytest.raises(ValueError, match="outside"):
        two.load_state_dict(state)


def test_line_k_by_hand():
    env = make("line_k")
    env.reset(seed=0)
    env._x = 0.95
    paid = []
    for _ in range(5):
        paid.append(env.step(1)[1])
    assert set(paid) == {0.0}  # no key
    env._x = 0.05
    obs, reward, *_ = env.step(2)
    assert reward == 0.0 and obs.tolist() == pytest.approx([0.05, 1.0, 1.0, 0.0, 1.0])
    env._x = 0.95
    obs, reward, terminated, truncated, info = env.step(1)
    assert reward == 1.0 and not terminated and info["facts"]["success"]


def test_line_k_decoys_and_slips():
    env = LineKeyBatch(3000, picks=4)
    env.reset(seed=0)
    env._s["x"] = torch.full((3000,), 0.05).double()
    env.step(torch.full((3000,), 3))
    held = torch.bincount(env._s["held"], minlength=5)
    assert held[:2].sum() == 0 and (held[2:] - 1000).abs().max() < 120
    single, lane = make("line_k", picks=4), env._s["held"]
    for i in range(20):
        single.reset(seed=0, options={"lane": i})
        single._x = 0.05
        assert single.step(3)[4]["facts"]["key"] == lane[i]
    env._s["x"] = torch.full((3000,), 0.5).double()
    env.step(torch.ones(3000, dtype=torch.int64))
    moved = env._s["x"] - 0.5
    assert ((moved.abs() >= 0.074) & (moved.abs() <= 0.076)).all()
    assert abs((moved < 0).double().mean().item() - 0.05) < 0.02


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="render_mode"):
        make("chain", render_mode="human")
    with pytest.raises(ValueError, match="max_episode_steps=0"):
        make_vec("chain", 2, max_episode_steps=0)
    with pytest.raises(ValueError, match="picks=0"):
        make("line_k", picks=0)
    with pytest.raises(ValueError, match="is a batch"):
        TabularEnv(Scene(random_mdp(3, 2, number=2)))
    env = make("chain")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the action 2 is not in"):
        env.step(2)
    with pytest.raises(ValueError, match=r"options\['lane'\]"):
        env.reset(options={"lane": -1})
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        make_vec("chain", 2).step(torch.zeros(2, dtype=torch.int64))


def test_a_table_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="success has shape"):
        Scene(build("chain").mdp, success=torch.zeros(3, dtype=torch.bool))
