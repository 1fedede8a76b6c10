"""Learners side by side: each is a lone one's twin on its own rows, and shares nothing with the others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.agents import MADDPG, CoachReg, TeamReg
from cairn.agents.multi import networks

SMALL: dict[str, Any] = {"batch_size": 16, "buffer_size": 400, "learning_starts": 30, "train_freq": 2, "seed": 0}
SMALL["policy_kwargs"] = {"net_arch": [16, 16]}


def side_by_side(cls: Any, learners: int = 3, lanes: int = 2, **kwargs: Any) -> Any:
    env = gym.make_vec("cairn/Spread-v0", num_envs=learners * lanes, device="cpu")
    return cls("MlpPolicy", env, learners=learners, **{**SMALL, **kwargs})


def own(model: Any, k: int) -> dict[str, torch.Tensor]:
    """Learner k's weights."""
    return {name: v.chunk(model.learners)[k].clone() for name, v in model.policy.state_dict().items()}


@pytest.mark.parametrize("cls", [MADDPG, TeamReg, CoachReg])
def test_each_learns_what_a_lone_one_learns(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.F, "gumbel_softmax", lambda logits, hard: networks.one_hot(logits))  # no dice
    settings = {"learning_rate": 1e-3, "max_grad_norm": 0.02}
    if cls is TeamReg:
        settings |= {"predict_weight": 0.7, "predictable_weight": 0.4}
    model = side_by_side(cls, **settings)
    torch.manual_seed(1)
    for p in model.policy.parameters():  # learners whose gradients are of different lengths
        p.data += 0.2 * torch.randn_like(p) * (1.0 + torch.arange(len(p)) // (len(p) / 3)).reshape(-1, 1, 1)
    lone = [model.learner(k) for k in range(3)]
    rows = 8
    batches = []
    for _ in range(4):
        obs, after, paid = torch.randn(24, 3, 14), torch.randn(24, 3, 14), torch.randn(24, 3)
        paid *= 10.0 ** torch.arange(3).repeat_interleave(rows)[:, None]
        batches.append((obs, torch.rand(24, 6) * 2 - 1, after, torch.arange(24) % 5 == 0, paid))

    def feed(one: Any, part: slice, replay: Any) -> None:
        given = [model.replay_buffer._samples(*(column[part] for column in batch)) for batch in batches]
        replay.batches = lambda *_: iter(given)
        one.replay_buffer = replay
        one.train(4, rows)

    for k in range(3):
        feed(lone[k], slice(k * rows, (k + 1) * rows), SimpleNamespace())
    before = [own(model, k) for k in range(3)]
    feed(model, slice(None), model.replay_buffer)
    for k in range(3):
        mine = own(model, k)
        for name, alone in lone[k].policy.state_dict().items():
            moved = (alone - before[k][name]).abs().max()
            torch.testing.assert_close(mine[name], alone, rtol=0, atol=max(0.01 * float(moved), 1e-7), msg=name)
    means = [float(one._losses["train/critic_loss"]) for one in lone]
    assert float(model._losses["train/critic_loss"]) == pytest.approx(sum(means) / 3, rel=1e-4)


@pytest.mark.parametrize("cls", [MADDPG, TeamReg, CoachReg])
def test_what_happens_to_one_is_nothing_to_the_others(cls: Any) -> None:
    models = []
    for push in (0.0, 0.3):
        model = side_by_side(cls)
        for p in model.policy.parameters():
            p.data[: len(p) // 3] += push
        models.append(model.learn(6 * 40))
        assert model._n_updates > 0
    same = [[torch.equal(a, b) for a, b in zip(*(own(m, k).values() for m in models))] for k in range(3)]
    assert not any(same[0]) and all(same[1]) and all(same[2])
    assert not torch.equal(own(models[0], 1)["actor.weights.0"], own(models[0], 2)["actor.weights.0"])


def test_everyone_draws_from_its_own_environments() -> None:
    model = side_by_side(MADDPG, learners=3, lanes=4).learn(12 * 50)
    replay, seen = model.replay_buffer, []
    plain = replay.draw
    replay.draw = lambda n: seen.append(plain(n)) or seen[-1]
    minibatches = list(replay.batches(5, 8))
    assert [len(b.observations) for b in minibatches] == [24] * 5
    at, lane = seen[0]
    assert ((lane // 4).reshape(5, 3, 8) == torch.arange(3)[:, None]).all()
    assert lane.unique().tolist() == list(range(12)) and len(at.unique()) > 20
    assert int(at.max()) < replay.clock
    replay.draw(6)
    assert (seen[-1][1] // 4).tolist() == [0, 0, 1, 1, 2, 2]


def test_defaults_are_a_lone_learner_s_over_its_own_environments() -> None:
    lone = MADDPG("MlpPolicy", gym.make_vec("cairn/Chase-v0", num_envs=4, device="cpu"))
    many = MADDPG("MlpPolicy", gym.make_vec("cairn/Chase-v0", num_envs=8, device="cpu"), learners=2)
    assert (many.batch_size, many.train_freq, many.gradient_steps) == (256, lone.train_freq, lone.gradient_steps)
    assert (many.buffer_size, many.learning_starts) == (2 * lone.buffer_size, 2 * lone.learning_starts)


@pytest.mark.parametrize("cls", [MADDPG, CoachReg])
def test_one_alone_acts_as_it_does_among_the_others(cls: Any, tmp_path: Path) -> None:
    model = side_by_side(cls).learn(6 * 30)
    state = torch.get_rng_state()
    lone = [model.learner(k) for k in range(3)]
    assert torch.equal(torch.get_rng_state(), state), "training goes on as if nobody had asked"
    obs = torch.randn(6, 3, 14)
    all_of_them = model.act_team(obs, deterministic=True)
    for k, one in enumerate(lone):
        torch.testing.assert_close(one.act_team(obs[2 * k : 2 * k + 2], deterministic=True), all_of_them[2 * k :][:2])
    lone[1].save(tmp_path / "lone")
    again = cls.load(tmp_path / "lone")
    assert torch.equal(again.predict(obs[2], deterministic=True)[0], lone[1].predict(obs[2], deterministic=True)[0])
    model.save(tmp_path / "all")
    both = cls.load(tmp_path / "all")
    assert both.learners == 3 and torch.equal(both.act_team(obs, deterministic=True), all_of_them)


def test_it_goes_on_to_the_same_bits() -> None:
    whole = side_by_side(CoachReg).learn(6 * 60)
    half = side_by_side(CoachReg).learn(6 * 30).training_state()
    other = side_by_side(CoachReg)
    other.load_training_state(half)
    other.learn(6 * 30, reset_num_timesteps=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.policy.parameters(), other.policy.parameters()))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="5 environments for 2 learners"):
        MADDPG("MlpPolicy", gym.make_vec("cairn/Chase-v0", num_envs=5, device="cpu"), learners=2)
    with pytest.raises(ValueError, match="leave the reward out"):
        MADDPG("MlpPolicy", gym.make_vec("cairn/Chase-v0", num_envs=4, device="cpu"), "2.0*task", learners=2)
    model = side_by_side(MADDPG)
    with pytest.raises(IndexError, match="learner 3 of 3"):
        model.learner(3)
    with pytest.raises(ValueError, match="ask one of them alone"):
        model.act_team(torch.zeros(4, 3, 14))
