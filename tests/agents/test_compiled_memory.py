"""The compiled memory equals torch's operations, forward and backward, and the number of threads changes no bit."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces

from cairn.agents import PPO, fused
from cairn.agents.compiled_memory import CompiledMemory, fits_memory
from cairn.agents.memory import MemoryPolicy
from cairn.agents.workers import cut
from cairn.envs.spaces import Symbols, tree_map

CUES = "cairn/MiniGrid-MemoryS7-v0"


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def lived(lanes: int = 37, window: int = 10, memory: int = 64, **kwargs: Any) -> tuple[PPO, dict[str, Any]]:
    """A model that has lived two rollouts, and the rows of the last, as if the policy had moved since."""
    envs = gym.make_vec(CUES, num_envs=lanes)
    policy_kwargs = {"memory": memory, "window": window, "features_extractor_kwargs": {"features_dim": 64}}
    model = PPO(
        "MlpPolicy", envs, seed=0, n_steps=20, n_epochs=1, batch_size=200, policy_kwargs=policy_kwargs, **kwargs
    )
    model.learn(2 * 20 * lanes)
    with torch.no_grad():  # far from where it began, so that every gate is in use
        for parameter in model.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.policy.features_extractor.body.parts[0].table[0] = 0  # type: ignore[index,union-attr,operator]
    rollout, memories = model.rollout, model._memories
    assert memories is not None
    memories.state[0] = torch.randn_like(memories.state[0])
    memories.start[:-1] |= torch.rand(20, lanes) < 0.1
    rows = {
        "obs": tree_map(lambda x: x[:-1], rollout.obs), "action": rollout.action, "value": rollout.value,
        "log_prob": rollout.log_prob + 0.2 * torch.randn_like(rollout.log_prob), "target": model._target,
        "advantage": model._advantage.sum(-1),
    }  # fmt: skip
    return model, tree_map(lambda x: x.flatten(0, 1), rows)


def seen_by(model: PPO, rows: dict[str, Any]) -> dict[str, Any]:
    """Rows as the compiled loop takes them."""
    assert isinstance(model._mind, CompiledMemory)
    return {**rows, "seen": model._mind.see(rows["obs"]), "memories": model._memories}


@pytest.mark.parametrize("memory", [64, 128])
def test_a_step_equals_torchs(memory: int) -> None:
    model, rows = lived(memory=memory)
    compiled, policy = model._mind, model.policy
    assert isinstance(compiled, CompiledMemory) and isinstance(policy, MemoryPolicy)
    compiled.begin()
    obs = tree_map(lambda x: x[:37], rows["obs"])
    state, start, noise = torch.randn(37, memory), torch.rand(37) < 0.3, torch.rand(37)
    state[5] *= 40  # gates at their ends
    with torch.no_grad():
        ours = compiled.step(obs, state, start, noise)
        theirs = policy.step(obs, state, start, noise=noise)
    assert torch.equal(ours[0], theirs[0])
    for a, b in zip(ours[1:], theirs[1:]):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [1, 10, 20])
@pytest.mark.parametrize("options", [{}, {"clip_range_vf": 0.05}])
def test_the_gradient_through_windows_equals_autograds(window: int, options: dict[str, Any]) -> None:
    model, rows = lived(window=window, **options)
    windows = model._windows()
    index = windows[torch.randperm(len(windows))[:33]]  # no whole number of tiles
    begins = model._memories.start.flatten()[index]  # type: ignore[union-attr]
    assert begins.any() and not begins.all()
    weights = fused.Weights(0.2, options.get("clip_range_vf"), 0.01, 0.5)
    rows["keep"] = torch.rand(len(rows["action"])) < 0.8
    for keep in (True, False):
        if not keep:
            del rows["keep"]
        numbers = model._minibatch(seen_by(model, rows), index, weights)
        ours = {name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None}
        compiled, model._mind = model._mind, None
        torch.testing.assert_close(numbers, model._minibatch(rows, index, weights), atol=1e-6, rtol=1e-4)
        assert ours.keys() == dict(model.policy.named_parameters()).keys()
        for name, parameter in model.policy.named_parameters():
            assert parameter.grad is not None and parameter.grad.any() or (window == 1 and "hh" in name), name
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5 * scale, rtol=1e-3, msg=name)
        model._mind = compiled


def test_parts_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = lived(lanes=50)
    index, weights = model._windows(), fused.Weights(0.2, None, 0.01, 0.5)
    assert len(cut(len(index), 16)) == 4
    seen = seen_by(model, rows)
    numbers = model._minibatch(seen, index, weights)
    parts = [p.grad.clone() for p in model.policy.parameters() if p.grad is not None]
    monkeypatch.setattr("cairn.agents.compiled_memory.cut", lambda rows, least: [slice(0, rows)])
    torch.testing.assert_close(numbers, model._minibatch(seen, index, weights), atol=1e-6, rtol=1e-4)
    for part, parameter in zip(parts, model.policy.parameters()):
        torch.testing.assert_close(part, parameter.grad, atol=1e-6, rtol=1e-3)


def test_what_is_learned_is_what_torch_would_learn() -> None:
    weights = []
    for compiled in (True, False):
        envs = gym.make_vec(CUES, num_envs=48)
        kwargs = {"n_steps": 16, "batch_size": 384, "n_epochs": 2, "policy_kwargs": {"memory": 64, "window": 8}}
        model = PPO("MlpPolicy", envs, seed=0, **kwargs)  # type: ignore[arg-type]
        assert isinstance(model._mind, CompiledMemory)
        model._mind = model._mind if compiled else None
        model.learn(48 * 16)
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


def test_the_number_of_threads_changes_no_bit_and_a_resumed_run_is_the_same_run() -> None:
    def make(threads: int) -> PPO:
        torch.set_num_threads(threads)
        kwargs = {"n_steps": 16, "batch_size": 1600, "n_epochs": 1, "policy_kwargs": {"memory": 64, "window": 8}}
        return PPO("MlpPolicy", gym.make_vec(CUES, num_envs=300), seed=0, **kwargs)  # type: ignore[arg-type]

    one, three = make(1).learn(2 * 4800), make(3).learn(4800)
    state = three.training_state()
    three.learn(4800, reset_num_timesteps=False)
    rest = make(2)
    rest.load_training_state(state)
    rest.learn(4800, reset_num_timesteps=False)
    for a, b, c in zip(*(m.policy.parameters() for m in (one, three, rest))):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_what_has_another_shape_is_left_to_torch() -> None:
    class Own(MemoryPolicy):
        def remember(self, obs: Any, state: Any, start: Any) -> Any:
            return super().remember(obs, state, start) * 0.5

    space = spaces.Dict({"image": Symbols((3, 3, 2), (4, 3)), "direction": spaces.Discrete(4)})

    def policy(kind: type[MemoryPolicy] = MemoryPolicy, actions: Any = None, **kwargs: Any) -> MemoryPolicy:
        kwargs = {"memory": 64, **kwargs}
        return kind(space, actions or spaces.Discrete(3), lambda _: 1e-3, **kwargs)

    assert fits_memory(policy()) and fits_memory(policy(memory=128))
    assert not fits_memory(policy(memory=48)) and not fits_memory(policy(net_arch=[64]))
    assert not fits_memory(policy(features_extractor_kwargs={"trunk": None})) and not fits_memory(policy(Own))
    assert not fits_memory(policy(actions=spaces.Box(-1, 1, (2,))))
    frozen = policy()
    frozen.unit.bias_hh.requires_grad_(False)
    assert not fits_memory(frozen)
    model = PPO(Own, gym.make_vec(CUES, num_envs=2), n_steps=16, batch_size=16, policy_kwargs={"memory": 64})
    assert model._mind is None and isinstance(model.policy, Own)
    model.learn(32)
