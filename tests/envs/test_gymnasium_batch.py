"""The bridge from single environments: ends, facts, frames, seeds, refusals, exact state."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import cairn  # noqa: F401
from cairn.envs import from_gymnasium, lane_seed, make_batch
from cairn.envs.spaces import Pixels, Symbols, Tokens, tree_leaves


class Count(gym.Env[Any, Any]):
    """Observes (steps, level, last draw); action 1 wins, 2 truncates, 3 does both, 4 loses, 0 goes on."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(5)

    def __init__(self, leak: bool = False, render_mode: str | None = None) -> None:
        self.leak, self.render_mode, self.episodes, self.t = leak, render_mode, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.episodes, self.options = 0, self.episodes + 1, options
        self.level = int(self.np_random.integers(1000)) + (1000 * self.episodes if self.leak else 0)
        self.draw = 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.t, self.level, self.draw], np.float32)

    def step(self, action: int) -> Any:
        assert type(action) is int
        self.t += 1
        self.draw = int(self.np_random.integers(1000))
        won = action in (1, 3)
        return self._obs(), float(won) - float(action == 4), won or action == 4, action in (2, 3), {"is_success": won}

    def render(self) -> Any:
        return np.full((4, 6, 3), self.t, np.uint8)


def facts(env: Any) -> dict[str, Any]:
    return {"t": env.t, "pair": np.array([env.level, env.t]), "half": env.t / 2, "odd": env.t % 2 == 1}


def test_ends_by_hand() -> None:
    env = from_gymnasium(Count, 5, facts=facts)
    first, info = env.reset(seed=3)
    levels = first[:, 1].tolist()
    assert levels == [float(np.random.default_rng(lane_seed(3, i)).integers(1000)) for i in range(5)]
    assert first[:, 0].tolist() == [0] * 5 and info["facts"]["success"].tolist() == [False] * 5
    env.step([0, 0, 0, 0, 0])
    obs, reward, terminated, truncated, info = env.step([0, 1, 2, 3, 4])
    assert reward.tolist() == [0, 1, 0, 1, -1] and reward.dtype == torch.float32
    assert terminated.tolist() == [False, True, False, True, True]
    assert truncated.tolist() == [False, False, True, True, False]
    assert info["_final_obs"].tolist() == [False, True, True, True, True]
    assert obs[:, 0].tolist() == [2, 0, 0, 0, 0]  # new episodes have begun
    assert info["final_obs"][:, 0].tolist() == [2, 2, 2, 2, 2]  # the rows outside the mask happen to be the present
    assert info["final_obs"][:, 1].tolist() == levels
    assert all(a != b for a, b in zip(obs[1:, 1].tolist(), levels[1:])) and obs[0, 1] == levels[0]
    assert info["facts"]["t"].tolist() == [2, 0, 0, 0, 0] and info["facts"]["t"].dtype == torch.int64
    assert info["final_facts"]["t"].tolist() == [2] * 5
    assert info["final_facts"]["success"].tolist() == [False, True, False, True, False]
    assert info["facts"]["success"].tolist() == [False] * 5
    assert info["facts"]["pair"].shape == (5, 2) and info["facts"]["half"].dtype == torch.float32
    assert info["final_facts"]["half"].tolist() == [1.0] * 5 and info["facts"]["odd"].dtype == torch.bool


def test_what_was_returned_is_not_written_over() -> None:
    env = from_gymnasium(Count, 2)
    kept = env.reset(seed=0)[0]
    before = kept.clone()
    out = env.step([1, 0])
    later = copy.deepcopy(out)
    for _ in range(3):
        env.step([1, 0])
    assert torch.equal(kept, before)
    assert all(torch.equal(a, b) for a, b in zip(out[:4], later[:4]))
    assert torch.equal(out[4]["final_obs"], later[4]["final_obs"])


def test_later_episodes_go_on_from_the_lane_s_own_stream() -> None:
    env = from_gymnasium(Count, 2)
    env.reset(seed=5)
    seen = [env.step([1, 0])[0][0, 1].item() for _ in range(3)]
    rng = np.random.default_rng(lane_seed(5, 0))
    rng.integers(1000)
    expected = []
    for _ in range(3):
        rng.integers(1000)  # the step's draw
        expected.append(float(rng.integers(1000)))
    assert seen == expected


def test_reset_mask_and_options() -> None:
    env = from_gymnasium(Count, 3)
    with pytest.raises(RuntimeError, match="first reset"):
        env.reset(options={"reset_mask": [True, False, False]})
    env.reset(seed=0, options={"hard": 1})
    assert env.envs is not None and [e.unwrapped.options for e in env.envs] == [{"hard": 1}] * 3  # type: ignore[attr-defined]
    before = env.step([0, 0, 0])[0]
    after, info = env.reset(options={"reset_mask": torch.tensor([False, True, False])})
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and after[1, 0] == 0
    assert info["facts"]["success"].shape == (3,)
    unchanged, _ = env.reset(options={"reset_mask": np.zeros(3, bool)})
    assert torch.equal(unchanged, after)


def test_unseeded_resets() -> None:
    env = from_gymnasium(Count, 2)
    a = env.reset()[0]
    b = env.reset()[0]  # goes on, and is not the same again
    assert not torch.equal(a, b)
    other = from_gymnasium(Count, 2)
    assert not torch.equal(other.reset()[0], a)
    with pytest.raises(ValueError, match="whole number"):
        env.reset(seed=-3)


def test_step_before_reset_and_after_a_failure() -> None:
    class Fails(Count):
        def step(self, action: int) -> Any:
            if action == 4 and self.t:
                raise OSError("broken")
            return super().step(action)

    env = from_gymnasium(Fails, 2)
    with pytest.raises(RuntimeError, match="reset"):
        env.step([0, 0])
    with pytest.raises(RuntimeError, match="reset"):
        env.observe()
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(OSError):
        env.step([0, 4])
    with pytest.raises(RuntimeError, match="a step failed"):
        env.step([0, 0])
    env.reset(seed=0)
    env.step([0, 0])


def test_bad_actions_change_nothing() -> None:
    env = from_gymnasium(Count, 2)
    env.reset(seed=0)
    env.step([0, 0])
    for bad in ([0, 5], [0, -1], [0], [0.0, 1.0], [[0], [0]]):
        with pytest.raises(ValueError):
            env.step(bad)
    assert env.step([0, 0])[0][:, 0].tolist() == [2, 2]


def test_a_reward_that_is_not_finite_is_an_error() -> None:
    class Broken(Count):
        def step(self, action: int) -> Any:
            obs, _, terminated, truncated, info = super().step(action)
            return obs, float("nan"), terminated, truncated, info

    env = from_gymnasium(Broken, 2)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="lane 0 gave the reward nan"):
        env.step([0, 0])


def test_environments_that_cannot_be_a_batch() -> None:
    shared = Count()
    with pytest.raises(ValueError, match="same environment twice"):
        from_gymnasium(lambda: shared, 2)
    with pytest.raises(ValueError, match="other spaces"):
        from_gymnasium(lambda lane: gym.make(["CartPole-v1", "MountainCar-v0"][lane]), 2)
    with pytest.raises(TypeError, match="make_batch"):
        from_gymnasium(shared, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="id or a function"):
        from_gymnasium(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fact 'name'"):
        from_gymnasium(Count, 1, facts=lambda env: {"name": "x"})


def test_facts_that_change_their_form() -> None:
    env = from_gymnasium(Count, 1, facts=lambda env: {"a": 0} if env.t < 2 else {"b": 0})
    env.reset(seed=0)
    env.step([0])
    with pytest.raises(ValueError, match="changed their form"):
        env.step([0])


def test_frames_come_before_the_reset() -> None:
    env = from_gymnasium(Count, 2, render_mode="rgb_array")
    env.frame_every = 2
    _, info = env.reset(seed=0)
    assert info["frame"].shape == (2, 4, 6, 3) and info["_frame"].tolist() == [True, True]
    shown = []
    for actions in ([0, 0], [0, 0], [1, 0], [0, 0]):
        info = env.step(actions)[4]
        shown.append(
            [
                (int(info["frame"][lane, 0, 0, 0]) if info["_frame"][lane] else None,
                 int(info["final_frame"][lane, 0, 0, 0]) if info["_final_frame"][lane] else None)
                for lane in range(2)
            ]
        )  # fmt: skip
    # lane 0 wins at its third step: the picture shows 3, and then 0 of the new episode
    assert [lanes[0] for lanes in shown] == [(None, None), (2, None), (0, 3), (None, None)]
    assert [lanes[1] for lanes in shown] == [(None, None), (2, None), (None, None), (4, None)]
    env.frame_every = 0
    assert "frame" not in env.step([0, 0])[4]


def test_minigrid_facts_success_and_kinds() -> None:
    env = from_gymnasium("MiniGrid-Empty-5x5-v0", 2)
    space: Any = env.single_observation_space
    assert isinstance(space["image"], Symbols) and space["image"].sizes == (11, 6, 4)
    assert isinstance(space["mission"], Tokens) and env.max_steps == 100
    obs, info = env.reset(seed=0)
    assert space["mission"].decode(obs["mission"][0]) == "get to the green goal square"
    assert info["facts"]["position"].tolist() == [[1, 1], [1, 1]]
    assert info["facts"]["carrying"].tolist() == [[-1, -1]] * 2
    # the goal is at (3, 3), the agent at (1, 1) looks right: two forward, turn right, two forward
    for action in (2, 2, 1, 2):
        _, reward, terminated, _, info = env.step([action, 6])
        assert not terminated.any() and not info["final_facts"]["success"].any()
    assert info["facts"]["position"].tolist() == [[3, 2], [1, 1]] and info["facts"]["direction"].tolist() == [1, 0]
    obs, reward, terminated, _, info = env.step([2, 6])
    assert terminated.tolist() == [True, False] and reward[0].item() == pytest.approx(1 - 0.9 * 5 / 100)
    assert info["final_facts"]["success"].tolist() == [True, False]
    assert info["final_facts"]["position"][0].tolist() == [3, 3]
    assert info["facts"]["position"].tolist() == [[1, 1], [1, 1]] and not info["facts"]["success"].any()


def test_minigrid_carrying_and_truncation() -> None:
    env = from_gymnasium("cairn/MiniGrid-DoorKey-5x5-v0", 1, max_steps=3)
    env.reset(seed=0)
    single: Any = env.envs[0].unwrapped  # type: ignore[index]
    key = next(
        (x, y) for x in range(5) for y in range(5) if (o := single.grid.get(x, y)) is not None and o.type == "key"
    )
    single.agent_pos, single.agent_dir = (key[0], key[1]), 0
    single.carrying = single.grid.get(*key)
    info = env.step([6])[4]
    assert info["facts"]["carrying"].tolist() == [[5, 4]]  # key, yellow
    env.step([6])
    _, _, terminated, truncated, info = env.step([6])
    assert truncated.item() and not terminated.item() and env.max_steps == 3
    assert info["final_facts"]["carrying"].tolist() == [[5, 4]] and info["facts"]["carrying"].tolist() == [[-1, -1]]
    assert not info["final_facts"]["success"].item()


def test_losing_is_not_success() -> None:
    env = from_gymnasium("MiniGrid-LavaGapS5-v0", 8)
    env.reset(seed=0)
    ended = 0
    for _ in range(40):
        _, reward, terminated, _, info = env.step(torch.randint(0, 3, (8,)))
        won = info["final_facts"]["success"]
        assert torch.equal(won & terminated, terminated & (reward > 0))
        ended += int((terminated & ~won).sum())
    assert ended > 0  # some fell into the lava


def test_minigrid_wrappers_and_pictures() -> None:
    from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper, RGBImgPartialObsWrapper

    whole = from_gymnasium(lambda: FullyObsWrapper(gym.make("MiniGrid-Empty-16x16-v0")), 1)
    assert isinstance(whole.single_observation_space["image"], Symbols)  # type: ignore[index]
    image = from_gymnasium(lambda: ImgObsWrapper(gym.make("MiniGrid-Empty-5x5-v0")), 1)
    assert isinstance(image.single_observation_space, Symbols) and image.reset(seed=0)[0].shape == (1, 7, 7, 3)
    picture = from_gymnasium(lambda: RGBImgPartialObsWrapper(gym.make("MiniGrid-Empty-5x5-v0")), 1)
    assert isinstance(picture.single_observation_space["image"], Pixels)  # type: ignore[index]


def test_keyed_lanes_are_the_single_environments() -> None:
    batch = gym.make_vec("cairn/MiniGrid-DoorKey-6x6-v0", num_envs=3, device="cpu")
    obs, _ = batch.reset(seed=11)
    actions = torch.randint(0, 7, (40, 3), generator=torch.Generator().manual_seed(0))
    singles: Any = [gym.make("cairn/MiniGrid-DoorKey-6x6-v0", max_episode_steps=None) for _ in range(3)]
    first = [env.reset(seed=11, options={"lane": lane})[0] for lane, env in enumerate(singles)]
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(obs), tree_leaves(batch.unwrapped.encode(first))))  # type: ignore[attr-defined]
    for row in actions:
        obs = batch.step(row)[0]
        for lane, env in enumerate(singles):
            first[lane], _, terminated, truncated, _ = env.step(int(row[lane]))
            if terminated or truncated:
                first[lane] = env.reset()[0]
        assert all(torch.equal(a, b) for a, b in zip(tree_leaves(obs), tree_leaves(batch.unwrapped.encode(first))))  # type: ignore[attr-defined]


def test_other_spaces() -> None:
    class Odd(gym.Env[Any, Any]):
        observation_space = spaces.Tuple(
            [
                spaces.Discrete(3),
                spaces.Dict({"say": spaces.Text(4, charset="ab"), "x": spaces.Box(0, 9, (2,), np.uint16)}),
            ]
        )
        action_space = spaces.MultiBinary(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return (1, {"say": "ab", "x": np.array([1, 2], np.uint16)}), {}

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action)
            return (2, {"say": "b", "x": np.array([3, 4], np.uint16)}), 0.0, False, False, {}

    env = from_gymnasium(Odd, 2)
    obs, info = env.reset(seed=0)
    assert obs["0"].tolist() == [1, 1] and obs["1"]["say"].tolist() == [[2, 3, 0, 0]] * 2 and info["facts"] == {}
    obs = env.step([[0, 1], [1, 1]])[0]
    assert obs["1"]["x"].tolist() == [[3, 4]] * 2 and obs["1"]["say"][0].tolist() == [3, 0, 0, 0]


def test_state_is_exact_in_mid_episode() -> None:
    generator = torch.Generator().manual_seed(1)
    actions = torch.randint(0, 3, (30, 4), generator=generator)
    env = from_gymnasium(Count, 4, facts=facts)
    assert env.exact_state
    env.reset(seed=2)
    for row in actions[:17]:
        last = env.step(row)[0]
    state = copy.deepcopy(env.state_dict())
    other = from_gymnasium(Count, 4, facts=facts)
    other.load_state_dict(state)
    assert torch.equal(other.observe()[0], last) and other.exact_state
    for row in actions[17:]:
        a, b = env.step(row), other.step(row)
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4]))
        assert all(torch.equal(a[4]["facts"][k], b[4]["facts"][k]) for k in a[4]["facts"])
    again = other.state_dict()
    assert again["actions"].tolist() == env.state_dict()["actions"].tolist()


def test_state_before_the_first_reset() -> None:
    env = from_gymnasium(Count, 2)
    other = from_gymnasium(Count, 2)
    other.reset(seed=0)
    other.load_state_dict(env.state_dict())
    with pytest.raises(RuntimeError, match="reset"):
        other.step([0, 0])


def test_continuous_actions_are_replayed_bit_for_bit() -> None:
    env, other = (from_gymnasium("Pendulum-v1", 2) for _ in range(2))
    env.reset(seed=0)
    for _ in range(20):
        env.step(torch.rand(2, 1) * 4 - 2)
    other.load_state_dict(env.state_dict())
    actions = torch.rand(2, 1)
    assert torch.equal(env.step(actions)[0], other.step(actions)[0])


@pytest.mark.parametrize("name", ["MiniGrid-Dynamic-Obstacles-6x6-v0", "BabyAI-GoTo-v0", "CartPole-v1"])
def test_upstream_ids_are_restored_exactly(name: str) -> None:
    import minigrid  # noqa: F401

    env, other = from_gymnasium(name, 2), from_gymnasium(name, 2)
    assert env.exact_state
    env.reset(seed=4)
    n = int(env.single_action_space.n)  # type: ignore[attr-defined]
    for _ in range(25):
        env.step(torch.randint(0, n, (2,)))
    other.load_state_dict(env.state_dict())
    for _ in range(15):
        actions = torch.randint(0, n, (2,))
        a, b = env.step(actions), other.step(actions)
        assert all(torch.equal(x, y) for x, y in zip(tree_leaves(a[0]), tree_leaves(b[0])))


def test_an_environment_that_cannot_be_replayed_says_so() -> None:
    env = from_gymnasium(lambda: Count(leak=True), 2)  # carries a counter from episode to episode
    assert not env.exact_state
    env.reset(seed=0)
    env.step([1, 0])  # lane 0 is in its second episode, lane 1 in its first
    other = from_gymnasium(lambda: Count(leak=True), 2)
    with pytest.warns(RuntimeWarning, match=r"lanes \[0(, 1)?\] could not be brought back"):
        other.load_state_dict(env.state_dict())
    assert not other.exact_state
    other.step([0, 0])  # goes on in new episodes


def test_a_replay_is_verified() -> None:
    env = from_gymnasium(Count, 2)
    env.reset(seed=0)
    env.step([0, 0])
    for spoil in ("obs", "random", "actions"):
        state = copy.deepcopy(env.state_dict())
        if spoil == "obs":
            state["obs"][1, 2] += 1
        elif spoil == "random":
            state["lanes"][1]["random"]["state"]["state"] += 1
        else:
            state["actions"][1] = 1  # ends the episode on the way
        other = from_gymnasium(Count, 2)
        assert other.exact_state
        with pytest.warns(RuntimeWarning, match=r"lanes \[1\]"):
            other.load_state_dict(state)
        assert not other.exact_state


def spoiled(state: Any, name: str) -> Any:
    state = copy.deepcopy(state)
    lane = state["lanes"][0]
    if name == "not a mapping":
        return [1]
    if name == "format":
        state["format"] = "other"
    elif name == "lanes":
        state["lanes"].pop()
    elif name == "num_envs":
        state["num_envs"] = 3
    elif name == "obs":
        state["obs"] = state["obs"][:, :2]
    elif name == "action":
        state["actions"][0] = 9
    elif name == "float actions":
        state["actions"] = state["actions"].astype(float)
    elif name == "no actions":
        state["actions"] = "import os"
    elif name == "too few actions":
        state["actions"] = state["actions"][:-1]
    elif name == "count":
        lane["actions"] = -1
    elif name == "too many":
        lane["actions"] = 10**9
    elif name == "whole":
        lane["whole"] = "yes"
    elif name == "origin":
        lane["origin"] = {"options": None}
    elif name == "seed":
        lane["origin"] = {"seed": "7", "options": None}
    elif name == "seed below zero":
        lane["origin"] = {"seed": -7, "options": None}
    elif name == "generator":
        lane["random"]["bit_generator"] = "MT19937"
    elif name == "generator's numbers":
        lane["random"]["state"] = {"state": "x", "inc": None}
    elif name == "options":
        lane["origin"]["options"] = 5
    elif name == "key missing":
        del lane["random"]
    return state


SPOILED = (
    "not a mapping,format,lanes,num_envs,obs,action,float actions,no actions,too few actions,count,too many,whole,"
    "origin,seed,seed below zero,generator,generator's numbers,options,key missing"
).split(",")


@pytest.mark.parametrize("name", SPOILED)
def test_a_hostile_state_is_refused_before_anything_happens(name: str) -> None:
    env = from_gymnasium(Count, 2)
    env.reset(seed=0)
    env.step([0, 0])
    state = env.state_dict()
    victim = from_gymnasium(Count, 2)
    victim.reset(seed=1)
    before = victim.step([0, 0])[0]
    with pytest.raises(ValueError):
        victim.load_state_dict(spoiled(state, name))
    assert torch.equal(victim.observe()[0], before)
    assert victim.step([0, 0])[0][:, 0].tolist() == [2, 2]


def test_a_record_has_at_most_max_steps_actions() -> None:
    env = from_gymnasium("CartPole-v1", 1)
    env.reset(seed=0)
    env.step([0])
    state = env.state_dict()
    state["actions"], state["lanes"][0]["actions"] = np.zeros(501, np.int64), 501
    with pytest.raises(ValueError, match="at most 500 steps"):
        env.load_state_dict(state)


def test_episodes_longer_than_the_record_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cairn.envs.gymnasium_batch.RECORD_LIMIT", 5)
    env = from_gymnasium(Count, 1)  # no cap on its episodes
    env.reset(seed=0)
    for _ in range(9):
        env.step([0])
    state = env.state_dict()
    assert len(state["actions"]) == 0 and not state["lanes"][0]["whole"]
    with pytest.warns(RuntimeWarning):
        env.load_state_dict(state)


def test_reset_options_are_part_of_the_record() -> None:
    env, other = from_gymnasium(Count, 1), from_gymnasium(Count, 1)
    env.reset(seed=0, options={"hard": 2})
    env.step([0])
    other.load_state_dict(env.state_dict())
    assert other.envs[0].unwrapped.options == {"hard": 2}  # type: ignore[index, attr-defined]
    env.reset(seed=0, options={"thing": object()})
    with pytest.warns(RuntimeWarning):
        other.load_state_dict(env.state_dict())


def test_make_batch_takes_what_agents_are_given() -> None:
    single = Count()
    batch = make_batch(single)
    assert batch.num_envs == 1 and batch.exact_state
    batch.reset(seed=0)
    batch.step([0])
    assert make_batch(batch) is batch
    assert make_batch("CartPole-v1", 3).num_envs == 3
    assert make_batch("cairn/MiniGrid-Empty-5x5-v0", 2).spec.id == "cairn/MiniGrid-Empty-5x5-v0"  # type: ignore[union-attr]
    assert make_batch("cairn:cairn/MiniGrid-Empty-5x5-v0").num_envs == 1
    assert make_batch(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")).num_envs == 2
    assert make_batch(Count, 2).num_envs == 2
    with pytest.raises(ValueError, match="has 1 already"):
        make_batch(single, 4)
    with pytest.raises(TypeError, match="is no environment"):
        make_batch(7)
    with pytest.raises(gym.error.NameNotFound):
        make_batch("CartPolle-v1")
