"""PettingZoo's environments as teams: who leaves, who may not come, what is refused, and states."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import cairn  # noqa: F401
from cairn.envs import check_batch_env
from cairn.envs.multi import AgentLanes, as_parallel, from_pettingzoo, parallel_env

pettingzoo = pytest.importorskip("pettingzoo")


class Relay(pettingzoo.ParallelEnv):  # type: ignore[misc]
    """Three runners; number i leaves after i + 1 steps (the last is cut off), unless it stumbles (action 0)."""

    metadata = {"name": "relay", "render_modes": []}
    render_mode = None

    def __init__(self, widths: tuple[int, ...] = (2, 2, 2), late: bool = False, noise: bool = False) -> None:
        self.possible_agents, self.late, self.noise = ["a", "b", "c"], late, noise
        self.spaces = {n: spaces.Box(-10, 10, (w,), np.float32) for n, w in zip("abc", widths)}
        self.acts = {n: spaces.Discrete(2 + (w > 2)) for n, w in zip("abc", widths)}
        self.seen: list[Any] = []

    def observation_space(self, agent: str) -> Any:
        return self.spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        rng = np.random.default_rng(None if self.noise else seed)
        self.start, self.t = rng.uniform(0, 1), 0
        self.agents = ["a", "b"] if self.late else ["a", "b", "c"]
        return self.obs(self.agents), {n: {} for n in self.agents}

    def obs(self, names: Any) -> Any:
        return {n: np.full(self.spaces[n].shape, self.start + self.t, np.float32) for n in names}

    def step(self, actions: Any) -> Any:
        assert set(actions) == set(self.agents), "exactly those who are there act"
        self.seen.append(dict(actions))
        acting, self.t = list(self.agents), self.t + 1
        stumbled = {n: actions[n] == 0 for n in acting}
        due = {n: self.t >= "abc".index(n) + 1 for n in acting}
        cut = {n: n == "c" and due[n] and not stumbled[n] for n in acting}
        over = {n: stumbled[n] or (due[n] and n != "c") for n in acting}
        self.agents = [n for n in acting if not (over[n] or cut[n])]
        if self.late and self.t == 1:
            self.agents.append("c")
        return self.obs(acting), {n: 1.0 + "abc".index(n) for n in acting}, over, cut, {n: {} for n in acting}


def test_agents_leave_one_by_one() -> None:
    batch = from_pettingzoo(Relay, 2)
    _, info = batch.reset(seed=0)
    assert info["alive"].all() and batch.agents == ("a", "b", "c")
    ones = torch.ones(2, 3, dtype=torch.long)
    obs, reward, terminated, truncated, info = batch.step(ones)
    assert reward.tolist() == [[1, 2, 3]] * 2 and not (terminated | truncated).any()
    assert info["acted"].all() and info["alive"][0].tolist() == [False, True, True]
    assert info["agent_terminated"][0].tolist() == [True, False, False] and not info["agent_truncated"].any()
    assert obs[0, 0].min() > 0, "the last observation of one who leaves is kept"
    obs, reward, *_, info = batch.step(ones)
    assert reward.tolist() == [[0, 2, 3]] * 2 and info["acted"][0].tolist() == [False, True, True]
    assert obs[0, 0].tolist() == [0, 0], "a row of one who has left is zeros"
    obs, reward, terminated, truncated, info = batch.step(ones)
    assert reward.tolist() == [[0, 0, 3]] * 2
    assert truncated.tolist() == [True, True] and not terminated.any(), "the last one was cut off"
    assert info["_final_obs"].all() and info["final_obs"][0, 2].min() > 2 and obs[0, 2].max() < 1
    assert info["alive"].all(), "the next episode has begun"
    stumble = ones.clone()
    stumble[1] = 0
    _, _, terminated, truncated, info = batch.step(stumble)
    assert terminated.tolist() == [False, True] and not truncated.any()


def test_learners_leave_out_the_rows_of_those_who_left() -> None:
    lanes = AgentLanes(from_pettingzoo(Relay, 1))
    lanes.reset(seed=0)
    assert not lanes.always_valid
    ones, rows = torch.ones(3, dtype=torch.long), []
    for _ in range(4):
        _, reward, terminated, truncated, info = lanes.step(ones)
        rows.append((info["valid"].tolist(), terminated.tolist(), truncated.tolist(), reward.tolist()))
    t, f = True, False
    assert rows[0] == ([t, t, t], [t, f, f], [f, f, f], [1, 2, 3])
    assert rows[1] == ([f, t, t], [f, t, f], [f, f, f], [0, 2, 3])
    assert rows[2] == ([f, f, t], [f, f, f], [f, f, t], [0, 0, 3])
    assert rows[3] == rows[0]


def test_it_conforms_and_goes_around() -> None:
    check_batch_env(lambda n: from_pettingzoo(Relay, n), steps=12, lanes=(2, 3))
    from pettingzoo.test import parallel_api_test, parallel_seed_test

    around = as_parallel(from_pettingzoo(Relay, 1))
    parallel_api_test(around, 20)
    parallel_seed_test(lambda: as_parallel(from_pettingzoo(Relay, 1)), 20)
    ours, back = parallel_env("cairn/Gems-v0"), as_parallel(from_pettingzoo(parallel_env("cairn/Gems-v0"), 1))
    assert back.possible_agents == ours.possible_agents


def test_those_who_come_late_are_refused() -> None:
    batch = from_pettingzoo(Relay, 1, late=True)
    batch.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"appeared in the middle of an episode \(c\)"):
        batch.step(torch.ones(1, 3, dtype=torch.long))


def test_an_aec_environment_is_told_how_to_convert() -> None:
    from pettingzoo.utils.conversions import parallel_to_aec

    with pytest.raises(TypeError, match="aec_to_parallel"):
        from_pettingzoo(lambda: parallel_to_aec(Relay()), 1)
    with pytest.raises(TypeError, match="possible_agents"):
        from_pettingzoo(lambda: object(), 1)
    with pytest.raises(TypeError, match="a function that makes a new one"):
        from_pettingzoo(Relay(), 2)


def test_unequal_spaces_are_refused_or_padded() -> None:
    with pytest.raises(ValueError, match="pad=True"):
        from_pettingzoo(Relay, 1, widths=(2, 4, 2))
    batch = from_pettingzoo(Relay, 1, widths=(2, 4, 2), pad=True)
    obs, _ = batch.reset(seed=0)
    assert tuple(obs.shape) == (1, 3, 4) and obs[0, 0, 2:].tolist() == [0, 0] and obs[0, 1].min() > 0
    assert batch.agent_action_space == spaces.Discrete(3)
    batch.step(torch.tensor([[2, 2, 1]]))
    assert batch.teams[0].seen == [{"a": 0, "b": 2, "c": 1}], "an action beyond an agent's own is its action 0"


def test_states_come_back_by_acting_them_out() -> None:
    first, second = from_pettingzoo(Relay, 2), from_pettingzoo(Relay, 2)
    first.reset(seed=5)
    for _ in range(4):
        first.step(torch.ones(2, 3, dtype=torch.long))
    second.load_state_dict(first.state_dict())
    assert second.exact_state and torch.equal(first.observe()[0], second.observe()[0])
    a, b = (env.step(torch.ones(2, 3, dtype=torch.long)) for env in (first, second))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and torch.equal(a[4]["alive"], b[4]["alive"])
    noisy = from_pettingzoo(Relay, 1, noise=True)
    noisy.reset(seed=5)
    with pytest.warns(UserWarning, match="more than their seed"):
        noisy.load_state_dict(noisy.state_dict())
    assert not noisy.exact_state


@pytest.mark.parametrize("name", ["simple_spread_v3", "simple_adversary_v3", "simple_speaker_listener_v4"])
def test_mpe2_comes_over(name: str) -> None:
    world = pytest.importorskip(f"mpe2.{name}")
    batch = from_pettingzoo(world.parallel_env, 2, pad=True)
    batch.reset(seed=0)
    cuts = 0
    for _ in range(30):
        cuts += int(batch.step(torch.as_tensor(batch.action_space.sample()))[3].sum())
    assert cuts == 2
