"""A step's arrays go into the rollout as torch would copy them."""

from typing import Any

import gymnasium as gym
import pytest
import torch

from cairn.agents import PPO
from cairn.agents.keeping import Keeper, Leaf

LANES = 5


def leaf(now: torch.Tensor, last: torch.Tensor | None = None) -> Leaf:
    to = [torch.full((3, *now.shape), 9, dtype=now.dtype) for _ in range(2)]
    return Leaf(now, to[0], last, None if last is None else to[1])


def examples() -> list[Leaf]:
    columns = torch.arange(4 * LANES, dtype=torch.int32).reshape(LANES, 4)
    doubles = torch.arange(6.0 * LANES, dtype=torch.float64).reshape(LANES, 3, 2)
    return [
        leaf(columns[:, 1], columns[:, 2]),  # numbers apart from each other
        leaf(columns[:, 1:3].to(torch.uint8), columns[:, :2].to(torch.uint8)),
        leaf(doubles, -doubles),
        leaf(doubles[:, 1:]),  # pieces apart from each other
        leaf(torch.tensor([True, False, True, True, False])),
    ]


def kept(keep: Keeper, leaves: list[Leaf], t: int, ended: torch.Tensor) -> bool:
    given = [ended, *(x for part in leaves for x in (part.now, part.last) if x is not None)]
    return keep(given, lambda: leaves, t, ended)


def test_leaves_are_copied_and_ends_chosen_lane_by_lane() -> None:
    ended, keep, leaves = torch.tensor([False, True, False, False, True]), Keeper(), examples()
    assert not kept(keep, leaves, 0, ended)  # these tensors may have been made for one step
    for t in (1, 2):
        assert kept(keep, leaves, t, ended)
        for now, to, last, to_last in leaves:
            assert torch.equal(to[t], now) and torch.equal(to[0], torch.full_like(to[0], 9))
            if last is not None and to_last is not None:
                assert torch.equal(to_last[t][ended], last[ended]) and torch.equal(to_last[t][~ended], now[~ended])
        leaves[0].now.add_(1)  # memory filled anew


def test_other_memory_is_noticed() -> None:
    keep, ended, first = Keeper(), torch.zeros(LANES, dtype=torch.bool), examples()
    assert not kept(keep, first, 0, ended) and kept(keep, first, 0, ended)
    other = first[0]._replace(now=torch.full((LANES,), 77, dtype=torch.int32))
    assert not kept(keep, [other, *first[1:]], 1, ended) and kept(keep, [other, *first[1:]], 1, ended)
    assert (other.to[1] == 77).all()
    other.now.set_(torch.full((LANES,), 78, dtype=torch.int32))  # type: ignore[call-overload]
    assert kept(keep, [other, *first[1:]], 1, ended)
    assert (other.to[1] == 78).all()


def test_what_is_not_copied_byte_by_byte_is_left_to_torch() -> None:
    ended, numbers = torch.zeros(LANES, dtype=torch.bool), torch.zeros(LANES, 2)
    across = torch.zeros(2, 3, LANES).permute(2, 1, 0)
    for bad in (
        Leaf(numbers, torch.full((3, LANES, 2), 9, dtype=torch.float64)),
        Leaf(numbers[:, :1], torch.full((3, LANES, 2), 9.0)),
        leaf(across),
    ):
        keep = Keeper()
        assert not kept(keep, [bad], 1, ended) and not kept(keep, [bad], 1, ended)
        assert (bad.to == 9).all()
    keep, leaves, numbers = Keeper(), examples(), ended.to(torch.uint8)
    assert not any(kept(keep, leaves, 1, numbers) for _ in range(3))


@pytest.mark.parametrize("reward", [None, "task + 0.1*episodic_count"])
def test_a_rollout_is_the_same_without(reward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lived, before = [], torch.get_num_threads()
    for native in (True, False):
        if not native:
            monkeypatch.setattr(Keeper, "__call__", lambda *_: False)
        envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=200, max_episode_steps=9)
        model = PPO("MlpPolicy", envs, reward, seed=0, n_steps=16, batch_size=3200, n_epochs=1)
        torch.set_num_threads(2 if native else 1)
        model.learn(2 * 3200)
        rollout = model.rollout
        lived.append([*rollout.obs.values(), rollout.reward, rollout.terminated, rollout.truncated, rollout.success])
        if reward is not None:
            for tree in (rollout.next_obs, rollout.facts, rollout.next_facts):
                lived[-1] += tree.values()
            assert any((a[:16] != b).any() for a, b in zip(rollout.facts.values(), rollout.next_facts.values()))
        assert rollout.truncated.any() and len(lived[-1]) > 6
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*lived))


def test_a_model_moves_to_levels_of_another_size() -> None:
    reward = "task + 0.1*episodic_count"
    envs = [gym.make_vec(f"cairn/MiniGrid-Empty-{size}-v0", num_envs=20) for size in ("5x5", "8x8", "6x6")]
    model = PPO("MlpPolicy", envs[0], reward, seed=0, n_steps=16, batch_size=320, n_epochs=1)
    model.learn(320)
    model.set_env(envs[1])
    model.learn(640, reset_num_timesteps=False)
    assert model.rollout.facts["cells"].shape == (17, 20, 64) and model.rollout.next_facts["cells"].any()
    again = PPO("MlpPolicy", envs[1], reward, seed=1, n_steps=16, batch_size=320, n_epochs=1)
    again.load_training_state(model.training_state())
    assert torch.equal(again.rollout.facts["cells"][0], envs[1].observe()[1]["facts"]["cells"])
    model.learn(320, reset_num_timesteps=False)
    envs[2].reset(seed=0)
    model.set_env(envs[2], force_reset=False)
    with pytest.raises(ValueError, match=r"cells \[36\].*cells \[64\].*force_reset=True"):
        model.learn(320, reset_num_timesteps=False)
