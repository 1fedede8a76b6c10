"""What is compiled equals torch's operations, and the number of threads changes no bit."""

import copy
import gc
import shutil
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from cairn.agents import PPO, fused
from cairn.agents import functional as fn
from cairn.agents.categories import Layout, category_sum, category_sum_torch, distinct
from cairn.agents.workers import Clock, Workers, cut, old_objects_at_rest, one_thread
from cairn.envs import from_gymnasium
from cairn.envs.spaces import Symbols, Tokens, tree_map

KEYS = "cairn/MiniGrid-KeyCorridorS3R1-v0"


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# ---- the sum over categories -------------------------------------------------------------------------------


def sums(rows: int, texts: int, width: int = 64) -> tuple[Any, ...]:
    """Three symbols of 4, 3 and 6 values, two categories of 3 (from 5) and 2; row 0 is zero."""
    torch.manual_seed(0)
    layout = Layout(
        torch.tensor([0, 3, 5], dtype=torch.int32), torch.tensor([3, 2, 5], dtype=torch.uint8),
        torch.tensor([11, 14], dtype=torch.int32), torch.tensor([5, 0]), torch.tensor([2, 1], dtype=torch.int32),
    )  # fmt: skip
    symbols = torch.stack([torch.randint(0, n, (rows,)) for n in (4, 3, 6)], 1).to(torch.uint8)
    categories = torch.stack([torch.randint(5, 8, (rows,)), torch.randint(0, 2, (rows,))], 1)
    table = torch.randn(16, width)
    table[0] = 0
    which = torch.randint(max(texts, 1), (rows,))
    return symbols, categories, layout, table, torch.randn(width), torch.randn(texts, width), which


@pytest.mark.parametrize("texts", [0, 4])
def test_the_sum_and_its_gradient_equal_a_linear_layer_on_one_hot(texts: int) -> None:
    symbols, categories, layout, table, bias, text, which = sums(200, texts)
    hot = [F.one_hot(symbols[:, s].long(), n)[:, 1:] for s, n in enumerate((4, 3, 6))]
    hot += [F.one_hot(categories[:, 0] - 5, 3), F.one_hot(categories[:, 1], 2)]
    learned = [x.clone().requires_grad_() for x in (table, bias, text)]
    exact = [x.double().requires_grad_() for x in (table, bias, text)]
    out = category_sum(symbols, categories, layout, learned[0], learned[1], learned[2], which)
    total = torch.cat(hot, 1).double() @ exact[0][1:] + exact[1]
    expected = F.relu(total + exact[2][which] if texts else total)
    torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(out)
    used = 3 if texts else 2
    ours = torch.autograd.grad((out * weight).sum(), learned[:used])
    theirs = torch.autograd.grad((expected * weight).sum(), exact[:used])
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-5)
    assert not ours[0][0].any()
    same = category_sum_torch(symbols, categories, layout, table, bias, text, which)
    torch.testing.assert_close(out.detach(), same, atol=1e-5, rtol=1e-5)


def test_values_out_of_range_stay_within_the_table() -> None:
    symbols, categories, layout, table, bias, text, which = sums(3, 0)
    symbols[:] = torch.tensor([255, 3, 6], dtype=torch.uint8)
    categories[:] = torch.tensor([-(2**40), 99])
    shown = table[3] + table[5] + table[10] + table[11] + table[15]
    for add in (category_sum, category_sum_torch):
        torch.testing.assert_close(add(symbols, categories, layout, table, bias, text, which)[0], F.relu(shown + bias))


def test_texts_are_told_apart_in_the_order_in_which_they_come() -> None:
    texts = torch.tensor([[3, 0], [0, 3], [3, 0], [7, 7], [0, 3]])
    first, which = distinct(texts, torch.tensor([5, 11]))
    assert first.tolist() == [0, 1, 3] and which.tolist() == [0, 1, 0, 2, 1]
    many = torch.arange(3000)[:, None] % 1500
    first, which = distinct(many, torch.tensor([2**61 + 1]))
    assert first.tolist() == list(range(1500)) and torch.equal(which, many[:, 0])


# ---- actions and loss --------------------------------------------------------------------------------------


def test_drawn_actions_have_the_probabilities_and_what_is_impossible_is_never_drawn() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.0, -torch.inf, 1.0, -1.0, -torch.inf])
    heads = torch.cat([logits, torch.tensor([7.0, 8.0])]).repeat(40_000, 1)
    uniform = torch.rand(40_000)
    uniform[:2] = torch.tensor([0.0, 1 - 2**-24])
    action, value, log_prob = fused.act(heads, 2, uniform)
    share = action.bincount(minlength=5) / len(action)
    torch.testing.assert_close(share, logits.softmax(-1), atol=0.01, rtol=0)
    assert share[1] == share[4] == 0 and action[0] == 0 and action[1] == 3
    torch.testing.assert_close(log_prob, logits.log_softmax(-1)[action])
    assert torch.equal(value, heads[:, 5:])
    assert torch.equal(action, fn.categorical_sample(heads[:, :5], uniform))


@pytest.mark.parametrize("clip_vf", [None, 0.3])
def test_the_fused_loss_and_its_gradient_equal_torchs(clip_vf: float | None) -> None:
    torch.manual_seed(0)
    rows, actions, channels = 300, 5, 2
    heads = torch.randn(rows, actions + channels, dtype=torch.float64)
    heads[:50, 3] = -torch.inf
    action = torch.randint(3, (rows,))
    old = heads[:, :actions].log_softmax(-1)[torch.arange(rows), action] + 0.4 * torch.randn(rows)
    advantage, target = torch.randn(rows), torch.randn(rows, channels)
    value = heads[:, actions:] + 0.5 * torch.randn(rows, channels)
    exact = heads.clone().requires_grad_()
    log_p = exact[:, :actions].log_softmax(-1)
    log_ratio = fn.categorical_log_prob(log_p, action) - old
    policy = fn.surrogate_loss(log_ratio.exp(), advantage.double(), 0.2)
    error = fn.value_loss(exact[:, actions:], target.double(), value, clip_vf)
    entropy = -fn.categorical_entropy(log_p).mean()
    loss = policy + 0.03 * entropy + 0.5 * error
    clipped = ((log_ratio.exp() - 1).abs() > 0.2).double().mean()
    expected = torch.stack([loss, policy, error, entropy, clipped, fn.approx_kl(log_ratio)]).detach()
    (by_heads,) = torch.autograd.grad(loss, exact)
    columns = action, old.float(), advantage, target, value.float()
    gradient, numbers = fused.loss_gradient(
        heads.float(), channels, *columns, fused.Weights(0.2, clip_vf, 0.03, 0.5), rows
    )
    torch.testing.assert_close(numbers, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, by_heads.nan_to_num().float(), atol=1e-6, rtol=1e-4)


# ---- the whole network -------------------------------------------------------------------------------------


def lived(env: str = KEYS, **kwargs: Any) -> tuple[PPO, dict[str, Any]]:
    """A model on compiled ground that has lived a rollout, and its rows, as if the policy had moved since."""
    envs = gym.make_vec(env, num_envs=100)
    model = PPO("MlpPolicy", envs, seed=0, n_steps=16, n_epochs=1, batch_size=400, **kwargs)
    model.learn(1600)
    rollout = model.rollout
    rows = {
        "obs": tree_map(lambda x: x[:-1], rollout.obs), "action": rollout.action, "value": rollout.value,
        "log_prob": rollout.log_prob + 0.2 * torch.randn_like(rollout.log_prob), "target": model._target,
        "advantage": model._advantage.sum(-1),
    }  # fmt: skip
    return model, tree_map(lambda x: x.flatten(0, 1), rows)


@pytest.mark.parametrize(
    "options", [{}, {"clip_range_vf": 0.05}, {"policy_kwargs": {"features_extractor_kwargs": {"trunk": 64}}}]
)
def test_the_compiled_network_equals_torchs(options: dict[str, Any]) -> None:
    model, rows = lived(**options)
    compiled = model._compiled
    assert compiled is not None
    compiled.begin()
    uniform = torch.rand(1600)
    with torch.no_grad():
        ours, theirs = compiled.act(rows["obs"], uniform), model.policy(rows["obs"], noise=uniform)
        torch.testing.assert_close(compiled.values(rows["obs"]), model.policy.predict_values(rows["obs"]))
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1:], theirs[1:])

    index = torch.randperm(1600)[:333]  # no whole number of tiles
    clip_vf = options.get("clip_range_vf")
    weights = fused.Weights(0.2, clip_vf, 0.01, 0.5)
    seen = {**rows, "seen": compiled.see(rows["obs"])}
    numbers = model._minibatch(seen, index, weights)
    gradients = {name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None}
    model._compiled = None
    torch.testing.assert_close(numbers, model._minibatch(rows, index, weights), atol=1e-6, rtol=1e-4)
    assert gradients and gradients.keys() == dict(model.policy.named_parameters()).keys()
    for name, parameter in model.policy.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-7, rtol=1e-3, msg=name)


def test_what_has_another_shape_is_left_to_torch() -> None:
    class Own(PPO):
        asked = 0

        def _loss(self, batch: dict[str, Any], clip: float, clip_vf: float | None) -> Any:
            self.asked += len(batch["action"]) == 16
            return super()._loss(batch, clip, clip_vf)

    envs = gym.make_vec(KEYS, num_envs=2)
    small: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    assert PPO("MlpPolicy", envs, **small)._compiled is not None
    for policy_kwargs in (
        {"net_arch": [64]},
        {"features_extractor_kwargs": {"trunk": 48}},
        {"share_features_extractor": False},
    ):
        assert PPO("MlpPolicy", envs, policy_kwargs=policy_kwargs, **small)._compiled is None
    model = Own("MlpPolicy", envs, **small)
    model.learn(32)
    assert model.asked == 2
    assert PPO("MlpPolicy", "CartPole-v1")._compiled is None


def test_parts_add_up_to_the_whole() -> None:
    for policy_kwargs in ({}, {"net_arch": [32]}):
        model, rows = lived(policy_kwargs=policy_kwargs)
        index, weights = torch.randperm(1600)[:1500], fused.Weights(0.2, None, 0.01, 0.5)
        if model._compiled is not None:
            rows["seen"] = model._compiled.see(rows["obs"])
        assert len(cut(1500, 512)) == 2 and len(cut(1500, 256)) == 3
        numbers = model._minibatch(rows, index, weights)
        parts = [p.grad.clone() for p in model.policy.parameters() if p.grad is not None]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cairn.agents.updating.cut", lambda rows, least: [slice(0, rows)])
            torch.testing.assert_close(numbers, model._minibatch(rows, index, weights), atol=1e-6, rtol=1e-4)
        for part, parameter in zip(parts, model.policy.parameters()):
            torch.testing.assert_close(part, parameter.grad, atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("policy_kwargs", [{}, {"net_arch": [32]}], ids=["compiled", "torch"])
def test_the_number_of_threads_changes_no_bit(policy_kwargs: dict[str, Any]) -> None:
    weights = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        envs = gym.make_vec(KEYS, num_envs=600)
        model = PPO("MlpPolicy", envs, seed=0, n_steps=16, batch_size=3200, n_epochs=1, policy_kwargs=policy_kwargs)
        assert (model._compiled is not None) == (not policy_kwargs)
        model.learn(2 * 9600)
        assert torch.get_num_threads() == threads
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_a_grid_with_more_than_an_image_is_compiled_too() -> None:
    from cairn.agents.compiled import Compiled, fits
    from cairn.agents.policies import ActorCriticPolicy

    part = Symbols((2, 2, 3), (11, 6, 4))
    several = spaces.MultiDiscrete([3, 2], start=[1, 0])
    space = spaces.Dict(
        {"a": part, "b": Symbols((1, 1, 2), (3, 3)), "c": spaces.Discrete(4), "d": several, "t": Tokens(4)}
    )
    policy = ActorCriticPolicy(space, spaces.Discrete(3), lambda _: 1e-3, channels=2)
    assert fits(policy)
    space.seed(0)
    draws = [space.sample() for _ in range(70)]
    obs = {key: torch.stack([torch.as_tensor(draw[key]) for draw in draws]) for key in space.spaces}
    compiled, uniform = Compiled(policy), torch.rand(70)
    compiled.begin()
    with torch.no_grad():
        for ours, theirs in zip(compiled.act(obs, uniform), policy(obs, noise=uniform)):
            torch.testing.assert_close(ours, theirs)


# ---- threads and time --------------------------------------------------------------------------------------


def test_workers_keep_order_and_hand_errors_on() -> None:
    with Workers(3) as workers:
        assert workers.map(lambda x: x * x, range(20)) == [x * x for x in range(20)]
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda x: 1 // x, [1, 0, 2, 3])
        assert workers.map(str, [1]) == ["1"]
    assert Workers(1).map(str, [1, 2]) == ["1", "2"]


def test_parts_cover_all_rows_and_depend_on_nothing_else() -> None:
    for rows in (1, 511, 512, 1024, 1025, 2048, 2100, 16384):
        parts = cut(rows, 512)
        assert [k for part in parts for k in range(rows)[part]] == list(range(rows))
        assert rows < 1024 or all(256 < part.stop - part.start <= 1024 for part in parts)
    assert [len(cut(rows, 512)) for rows in (511, 1023, 1024, 2048, 4096)] == [1, 1, 2, 2, 4]


def test_time_is_put_down_to_what_it_was_spent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 3.0, 6.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock("a", "b")
    assert (clock.lap("a"), clock.lap(), clock.lap("b")) == (2.0, 1.0, 3.0)
    clock.move(0.5, "b", "a")
    assert clock.shares() == {"a": 0.25, "b": 0.25}
    assert clock.seconds == {"a": 0.0, "b": 0.0}


def test_a_run_tells_where_its_time_went() -> None:
    model = PPO("MlpPolicy", gym.make_vec(KEYS, num_envs=64), seed=0, n_steps=16, batch_size=64)
    model.learn(4 * 1024, log_interval=3)
    shares = model._clock.shares()
    assert 0.5 < sum(shares.values()) <= 1 and shares["learning"] > 0


def test_settings_of_python_and_torch_come_back() -> None:
    torch.set_num_threads(2)
    with one_thread(), old_objects_at_rest():
        assert torch.get_num_threads() == 1 and gc.get_freeze_count() > 0
        with old_objects_at_rest():
            pass
        assert gc.get_freeze_count() > 0
    assert torch.get_num_threads() == 2 and gc.get_freeze_count() == 0


# ---- torch.compile and CUDA graphs -------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compile_changes_nothing_but_rounding() -> None:
    weights = []
    for compiles in (False, True):
        kwargs: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 16, "batch_size": 32, "n_epochs": 2}
        model = PPO("MlpPolicy", from_gymnasium("CartPole-v1", 4), seed=0, device="cpu", compile=compiles, **kwargs)
        model.learn(64)
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)


def test_flags_that_cannot_be_say_so() -> None:
    with pytest.raises(ValueError, match="CUDA"):
        PPO("MlpPolicy", "CartPole-v1", device="cpu", cudagraphs=True)
    with pytest.raises(ValueError, match="memory"):
        PPO("MlpPolicy", "CartPole-v1", compile=True, policy_kwargs={"memory": 8})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_graph_changes_nothing_but_rounding() -> None:
    weights = []
    for graphs in (False, True):
        envs = gym.make_vec(KEYS, num_envs=64, device="cuda")
        model = PPO("MlpPolicy", envs, seed=0, n_steps=16, batch_size=256, n_epochs=2, cudagraphs=graphs)
        model.learn(2 * 1024)
        weights.append(torch.cat([p.detach().flatten().cpu() for p in model.policy.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)


def test_a_copied_learner_has_no_threads_of_another() -> None:
    with Workers(2) as workers:
        copied = copy.deepcopy(workers)
        assert copied is not workers and copied.threads == 1
        assert copied.map(lambda k: k + 1, [1, 2, 3]) == [2, 3, 4]
