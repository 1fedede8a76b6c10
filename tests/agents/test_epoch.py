"""A compiled pass over a rollout equals the minibatches of torch, and stops, saves and goes on as they do."""

from typing import Any

import gymnasium as gym
import pytest
import torch

from cairn.agents import PPO

KEYS = "cairn/MiniGrid-KeyCorridorS3R1-v0"
SMALL: dict[str, Any] = {"seed": 0, "n_steps": 16, "n_epochs": 2, "batch_size": 300}


def learned(compiled: bool, steps: int = 3200, env: str = KEYS, **settings: Any) -> PPO:
    """A model that has learned from a few rollouts, by compiled passes or by torch's minibatches."""
    model = PPO("MlpPolicy", gym.make_vec(env, num_envs=100), **{**SMALL, **settings})
    assert model._epochs is not None
    if not compiled:
        model._epochs = None
    model.learn(steps)
    return model


def weights(model: PPO) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def moments(model: PPO) -> torch.Tensor:
    slots = [model.policy.optimizer.state[p] for p in model.policy.parameters()]
    return torch.cat([slot[name].flatten() for slot in slots for name in ("exp_avg", "exp_avg_sq")])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 1600, "max_grad_norm": 0.05},
        {"clip_range_vf": 0.1, "normalize_advantage": False, "learning_rate": 1e-3},
        {"policy_kwargs": {"optimizer_kwargs": {"betas": (0.5, 0.9), "eps": 1e-3}}},
        {"env": "cairn/BabyAI-GoToObj-v0"},
    ],
    ids=["plain", "one cut minibatch", "values clipped", "betas", "many missions"],
)
def test_a_compiled_pass_equals_torchs_minibatches(settings: dict[str, Any]) -> None:
    ours, theirs = (learned(compiled, 1600, **settings) for compiled in (True, False))
    torch.testing.assert_close(weights(ours), weights(theirs), atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(moments(ours), moments(theirs), atol=1e-6, rtol=2e-2)
    steps = [{float(slot["step"]) for slot in model.policy.optimizer.state.values()} for model in (ours, theirs)]
    assert steps[0] == steps[1] == {2.0 * -(-1600 // settings.get("batch_size", 300))}
    logged = [model.logger.name_to_value for model in (ours, theirs)]
    names = {name for name in logged[1] if name.startswith("train/")}
    assert len(names) > 7 and names <= set(logged[0])
    for name in names:
        assert logged[0][name] == pytest.approx(logged[1][name], rel=1e-2, abs=1e-4), name


def test_what_is_not_plain_adam_is_left_to_torch() -> None:
    for kwargs in ({"optimizer_class": torch.optim.SGD}, {"optimizer_kwargs": {"weight_decay": 0.1}}):
        model = PPO("MlpPolicy", gym.make_vec(KEYS, num_envs=100), policy_kwargs=kwargs, **SMALL)
        assert model._epochs is not None and not model._epochs.fits(model.policy.optimizer)
        before = weights(model)
        model.learn(1600)
        assert not torch.equal(before, weights(model))


def test_a_pass_ends_when_the_policy_has_gone_far_enough() -> None:
    kinds = [learned(compiled, 1600, target_kl=0.002, learning_rate=3e-3) for compiled in (True, False)]
    steps = [{float(slot["step"]) for slot in model.policy.optimizer.state.values()} for model in kinds]
    assert steps[0] == steps[1] and 0 < steps[0].pop() < 12
    torch.testing.assert_close(weights(kinds[0]), weights(kinds[1]), atol=2e-5, rtol=1e-3)


def test_a_saved_model_goes_on_to_the_same_bits_and_torchs_adam_takes_it_over(tmp_path: Any) -> None:
    model = learned(True, 1600)
    state, whole = model.training_state(), learned(True, 3200)
    again = PPO("MlpPolicy", gym.make_vec(KEYS, num_envs=100), **SMALL)
    again.load_training_state(state)
    again.learn(1600, reset_num_timesteps=False)
    assert torch.equal(weights(again), weights(whole)) and torch.equal(moments(again), moments(whole))
    model.save(tmp_path / "model")
    other = torch.optim.Adam(PPO.load(tmp_path / "model").policy.parameters(), fused=True)
    other.load_state_dict(model.policy.optimizer.state_dict())
    assert all(float(slot["step"]) == 12 for slot in other.state.values())


def test_a_thread_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = learned(True, 1600)
    assert model._epochs is not None
    loop = model._epochs._loop

    def fails(*values: Any) -> None:
        if values[-1] == 1:
            raise MemoryError("no room")
        loop(*values)

    monkeypatch.setattr(model._epochs, "_loop", fails)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(MemoryError, match="no room"):
            model.learn(1600, reset_num_timesteps=False)
    finally:
        torch.set_num_threads(before)
