"""Hidden layers in bfloat16: what is rounded and what is not, gradients, threads, a model that comes back."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import nn

import cairn  # noqa: F401
from cairn.agents import PPO
from cairn.agents.half import HalfMlpExtractor
from cairn.envs import from_gymnasium

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}


def cartpole(**changes: Any) -> PPO:
    return PPO("MlpPolicy", from_gymnasium("CartPole-v1", 4), **{**SMALL, **changes})


def test_layers_round_to_eight_bits_and_come_back_as_float32() -> None:
    """1 + 2^-9 lies between two bfloat16 numbers, 1 and 1 + 2^-7, and is nearer to 1."""
    layers = HalfMlpExtractor(1, {"pi": [1], "vf": [1]}, nn.Identity, "cpu")
    for parameter in layers.parameters():
        nn.init.constant_(parameter, float(parameter.dim() == 2))
    x = torch.tensor([[1 + 2**-9], [1 + 2**-7]])
    for out in layers(x):
        assert out.dtype == torch.float32 and out.flatten().tolist() == [1, 1 + 2**-7]


def test_weights_heads_and_losses_stay_in_float32() -> None:
    exact, rounded = cartpole(), cartpole(bf16=True)
    assert all(p.dtype == torch.float32 for p in rounded.policy.parameters())
    obs = torch.randn(64, 4)
    action = torch.randint(2, (64,))
    for mine, theirs in zip(rounded.policy.evaluate_actions(obs, action), exact.policy.evaluate_actions(obs, action)):
        assert mine is not None and theirs is not None and mine.dtype == torch.float32
        assert not torch.equal(mine, theirs)
        torch.testing.assert_close(mine, theirs, atol=0.02, rtol=0.02)
    latent = rounded.policy.mlp_extractor.forward_actor(obs)
    assert torch.equal(latent, latent.bfloat16().float())
    logits = rounded.policy.action_net(latent)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_an_update_is_float32s_but_for_rounding() -> None:
    """Gradients reach all weights, after acting without them too."""
    weights = []
    for bf16 in (False, True):
        model = cartpole(bf16=bf16, n_epochs=1, batch_size=64)
        before = [p.detach().clone() for p in model.policy.parameters()]
        model.learn(64)
        assert all(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters()))
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    # Adam's first step is of one length, whatever the gradient's: a sign that turns is two steps away.
    assert (weights[0] - weights[1]).abs().max() < 1e-3 and not torch.equal(*weights)


def test_grids_leave_their_compiled_loops_and_the_model_comes_back(tmp_path: Path) -> None:
    envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=8, device="cpu")
    model = PPO("MlpPolicy", envs, bf16=True, **SMALL)
    assert model._compiled is None and PPO("MlpPolicy", envs, **SMALL)._compiled is not None
    model.learn(128)
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", device="cpu")
    assert again.policy.bf16
    obs, _ = envs.reset(seed=3)
    with torch.no_grad():
        for mine, theirs in zip(again.policy._latents(obs), model.policy._latents(obs)):
            assert torch.equal(mine, theirs)


def test_it_goes_with_a_memory() -> None:
    envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=8, device="cpu")
    remembers: dict[str, Any] = {**SMALL, "policy_kwargs": {"memory": 64}}
    assert PPO("MlpPolicy", envs, **remembers)._mind is not None
    model = PPO("MlpPolicy", envs, bf16=True, **remembers)
    model.learn(128)
    assert model._mind is None and all(p.isfinite().all() for p in model.policy.parameters())


def test_threads_change_no_bit() -> None:
    weights, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            envs = from_gymnasium("CartPole-v1", 64)
            model = PPO("MlpPolicy", envs, bf16=True, seed=0, n_steps=32, batch_size=1024, n_epochs=2, device="cpu")
            model.learn(2 * 2048)
            weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*weights)
