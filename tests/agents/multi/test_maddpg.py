"""MADDPG, TeamReg and CoachReg: losses and gradients against loops over agents, files, runs, and that they learn."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

import cairn  # noqa: F401
from cairn.agents import MADDPG, CoachReg, TeamReg
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.multi import networks
from cairn.agents.training import TrainConfig, acting, evaluate, resume, train
from cairn.envs.multi import TeamEnv

SMALL: dict[str, Any] = {"learning_starts": 32, "batch_size": 16, "buffer_size": 1000, "seed": 0}
SMALL["policy_kwargs"] = {"net_arch": [16, 16]}


def team(name: str = "cairn/Chase-v0", n: int = 4, **kwargs: Any) -> Any:
    return gym.make_vec(name, num_envs=n, device="cpu", **kwargs)


class Match(TeamEnv):
    """One step: each agent is paid for doing what it sees, -(a - o)^2."""

    agents = ("a", "b")
    exact_state = False

    def __init__(self, n: int) -> None:
        super().__init__(n, spaces.Box(-1, 1, (2, 1), np.float32), spaces.Box(-1, 1, (2, 1), np.float32), max_steps=1)
        self.agent_observation_space = self.agent_action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.generator = torch.Generator().manual_seed(seed or 0)
        return self._next(), {"facts": {}}

    def _next(self) -> torch.Tensor:
        self.obs = torch.rand(self.num_envs, 2, 1, generator=self.generator) * 2 - 1
        return self.obs.clone()

    def step(self, actions: Any) -> Any:
        reward, last = -(actions - self.obs).square()[..., 0], self.obs.clone()
        over = torch.ones(self.num_envs, dtype=torch.bool)
        info = {"final_obs": last, "_final_obs": over, "facts": {}, "final_facts": {}}
        return self._next(), reward, over, ~over, info


def test_it_learns_to_act_for_each_agent() -> None:
    model = MADDPG("MlpPolicy", Match(16), seed=0, learning_rate=1e-3, learning_starts=256, batch_size=128)
    before = evaluate_batch(acting(model, True), Match(256), 256, 1)
    model.learn(16 * 450)
    after = evaluate_batch(acting(model, True), Match(256), 256, 1)
    assert before.return_mean < -0.25 and after.return_mean > -0.07
    assert after.agents is not None and set(after.agents) == {"a", "b"}


class Guess(TeamEnv):
    """One step: each agent sees one of three things and is paid 1 for naming it; names count from 2."""

    agents = ("a", "b")
    exact_state = False

    def __init__(self, n: int) -> None:
        super().__init__(
            n, spaces.Box(0, 1, (2, 3), np.float32), spaces.MultiDiscrete([3, 3], start=[2, 2]), max_steps=1
        )
        self.agent_observation_space = spaces.Box(0, 1, (3,), np.float32)
        self.agent_action_space = spaces.Discrete(3, start=2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.generator = torch.Generator().manual_seed(seed or 0)
        return self._next(), {"facts": {}}

    def _next(self) -> torch.Tensor:
        self.what = torch.randint(3, (self.num_envs, 2), generator=self.generator)
        return F.one_hot(self.what, 3).float()

    def step(self, actions: Any) -> Any:
        assert actions.shape == (self.num_envs, 2) and bool(((actions >= 2) & (actions < 5)).all())
        reward, last = (actions - 2 == self.what).float(), F.one_hot(self.what, 3).float()
        over = torch.ones(self.num_envs, dtype=torch.bool)
        info = {"final_obs": last, "_final_obs": over, "facts": {}, "final_facts": {}}
        return self._next(), reward, over, ~over, info


def test_it_learns_to_choose(tmp_path: Path) -> None:
    model = MADDPG("MlpPolicy", Guess(16), seed=0, learning_rate=1e-3, learning_starts=256, batch_size=128)
    model.learn(256)
    kept = model.replay_buffer.lived["action"][:16].reshape(-1, 3)
    assert bool(((kept == 1).sum(1) == 1).all()) and bool(((kept == -1).sum(1) == 2).all()), (
        "one-hots from the first on"
    )
    assert model.action_noise is None
    model.learn(16 * 350)
    played = evaluate_batch(acting(model, True), Guess(256), 256, 1)
    assert played.return_mean > 0.9
    obs = torch.eye(3)[torch.tensor([[0, 2], [1, 1]])]
    model.save(tmp_path / "m")
    for one in (model, MADDPG.load(tmp_path / "m"), MADDPG.load(tmp_path / "m", env=Guess(4))):
        assert one.predict(obs, deterministic=True)[0].tolist() == [[2, 4], [3, 3]]
        assert one.predict(obs[0].numpy(), deterministic=True)[0].tolist() == [2, 4]


def test_a_choice_s_gradient_is_the_softmax_s(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.distributions.Gumbel(0.0, 1.0).sample((2, 7, 1, 5))

    def draw(logits: torch.Tensor, hard: bool) -> torch.Tensor:
        assert hard
        return networks.one_hot(logits + drawn)

    monkeypatch.setattr(networks.F, "gumbel_softmax", draw)
    model = MADDPG("MlpPolicy", team("cairn/Gems-v0"), **SMALL)
    for net in (model.policy.actor, model.policy.critic):
        for p in net.parameters():
            p.data += 0.2 * torch.randn_like(p)
    obs = torch.randn(7, 2, 22)
    got, losses = gradients(model, obs)
    loss = torch.zeros(())
    logits = [one_agent(model.policy.actor, j, obs[:, j]) for j in range(2)]
    acts = []
    for j in range(2):
        soft = (logits[j] + drawn[j, :, 0]).softmax(1)
        hard = F.one_hot(soft.argmax(1), 5).float()
        acts.append(2 * (soft + (hard - soft).detach()) - 1)
        loss = loss + 1e-3 * logits[j].square().mean()
    for i in range(2):
        loss = loss - value(model, i, obs, [a if j == i else a.detach() for j, a in enumerate(acts)]).mean()
    total = sum(float(part.detach()) for part in losses.values())
    assert total == pytest.approx(float(loss.detach()), rel=1e-5)
    for a, b in zip(got, torch.autograd.grad(loss, model._of_actor)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# ---- against loops over agents ---------------------------------------------------------------------------


def one_agent(net: networks.TeamMLP, i: int, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Network i alone, layer by layer."""
    for k, weight in enumerate(net.weights):
        x = F.linear(x, weight[i].t(), net.biases[k][i, 0])
        if k < len(net.scales):
            x = x * mask if mask is not None and k == 0 else x
            x = F.relu(F.layer_norm(x, x.shape[1:], net.scales[k][i, 0], net.shifts[k][i, 0]))
    return x


def ready(cls: Any, **kwargs: Any) -> tuple[Any, torch.Tensor]:
    model = cls("MlpPolicy", team("cairn/Spread-v0"), **{**SMALL, **kwargs})
    for net in (model.policy.actor, model.policy.critic):  # away from the small first values
        for p in net.parameters():
            p.data += 0.2 * torch.randn_like(p)
    model.policy.actor_target.load_state_dict(model.policy.actor.state_dict())
    return model, torch.randn(7, 3, 14)


def gradients(model: Any, obs: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    model.policy.actor_optimizer.zero_grad()
    losses = model._actor_losses(obs)
    torch.autograd.backward(torch.stack(list(losses.values())).sum(), inputs=model._of_actor)
    losses |= model._extra_gradients(obs)
    return [p.grad.clone() for p in model._of_actor], losses


def value(model: Any, i: int, obs: torch.Tensor, actions: list[torch.Tensor]) -> torch.Tensor:
    return one_agent(model.policy.critic, i, torch.cat([*obs.unbind(1), *actions], 1))[:, 0]


def test_the_critics_learn_the_targets_of_equation_6() -> None:
    model, _ = ready(MADDPG)
    obs, after, paid = torch.randn(7, 3, 14), torch.randn(7, 3, 14), torch.randn(7, 3)
    done = (torch.arange(7) % 3 == 0).float()
    acts = torch.rand(7, 6) * 2 - 1
    batch = model.replay_buffer._samples(obs, acts, after, done.bool(), paid)
    model.replay_buffer.batches = lambda *_: iter([batch])
    model.lr_schedule, model.tau = lambda _: 0.0, 0.0
    model.train(1, 7)
    policy, total = model.policy, 0.0
    nexts = [torch.tanh(one_agent(policy.actor_target, j, after[:, j])) for j in range(3)]
    for i in range(3):
        ahead = one_agent(policy.critic_target, i, torch.cat([*after.unbind(1), *nexts], 1))[:, 0]
        target = paid[:, i] + 0.95 * (1 - done) * ahead
        error = value(model, i, obs, [acts[:, 2 * j : 2 * j + 2] for j in range(3)]) - target
        total += float(error.detach().square().mean())
    assert float(model._losses["train/critic_loss"]) == pytest.approx(total, rel=1e-5)


def test_an_actor_s_gradient_is_its_own_value_s() -> None:
    model, obs = ready(MADDPG)
    got, losses = gradients(model, obs)
    loss = torch.zeros(())
    for i in range(3):
        acts = [torch.tanh(one_agent(model.policy.actor, j, obs[:, j])) for j in range(3)]
        loss = loss - value(model, i, obs, [a if j == i else a.detach() for j, a in enumerate(acts)]).mean()
    assert float(losses["actor_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for a, b in zip(got, torch.autograd.grad(loss, model._of_actor)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [(0.5, 0.0), (0.0, 0.3), (0.2, 0.7)])
def test_teamreg_moves_who_predicts_and_who_is_predicted(weights: tuple[float, float]) -> None:
    model, obs = ready(TeamReg, predict_weight=weights[0], predictable_weight=weights[1])
    got, losses = gradients(model, obs)
    heads = [torch.tanh(one_agent(model.policy.actor, i, obs[:, i])).reshape(7, 3, 2) for i in range(3)]
    loss, error = torch.zeros(()), 0.0
    for i in range(3):
        acts = [h[:, 0] for h in heads]
        loss = loss - value(model, i, obs, [a if j == i else a.detach() for j, a in enumerate(acts)]).mean()
        for k, j in enumerate([j for j in range(3) if j != i]):
            guess, real = heads[i][:, 1 + k], heads[j][:, 0]
            error += float((guess - real).square().sum(1).mean()) / 6
            loss = loss + weights[0] * (guess - real.detach()).square().sum(1).mean() / 3
            loss = loss + weights[1] * (guess.detach() - real).square().sum(1).mean() / 3
    assert float(losses["team_error"]) == pytest.approx(error, rel=1e-5)
    for a, b in zip(got, torch.autograd.grad(loss, model._of_actor)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_coachreg_s_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.F, "gumbel_softmax", lambda logits, hard: networks.one_hot(logits))  # no dice
    model, obs = ready(CoachReg, match_weight=0.65, together_weight=0.5, coach_weight=1.3)
    for p in (*model.policy.chooser.parameters(), *model.policy.coach.parameters()):
        p.data += 0.3 * torch.randn_like(p)
    got, losses = gradients(model, obs)
    policy = model.policy
    choice = [one_agent(policy.chooser, i, obs[:, i]) for i in range(3)]
    coach = one_agent(policy.coach, 0, obs.flatten(1))

    def act(i: int, logits: torch.Tensor) -> torch.Tensor:
        return torch.tanh(one_agent(policy.actor, i, obs[:, i], networks.one_hot(logits).repeat(1, 4)))

    loss = torch.zeros(())
    for i in range(3):
        acts = [act(j, choice[j]) for j in range(3)]
        loss = loss - value(model, i, obs, [a if j == i else a.detach() for j, a in enumerate(acts)]).mean()

        def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
            return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1).mean()

        loss = loss + 0.65 * kl(coach.detach(), choice[i]) + 1.3 * kl(coach, choice[i].detach()) / 3
    expected = list(torch.autograd.grad(loss, model._of_actor, retain_graph=True))
    together = -torch.stack([value(model, i, obs, [act(j, coach) for j in range(3)]) for i in range(3)]).mean()
    assert float(losses["together_loss"]) == pytest.approx(float(together.detach()), rel=1e-5)
    actor, taught = list(policy.actor.parameters()), list(policy.coach.parameters())
    for k, more in enumerate(torch.autograd.grad(together, [*actor, *taught])):
        of = [*actor, *taught][k]
        place = next(n for n, p in enumerate(model._of_actor) if p is of)
        expected[place] = expected[place] + (0.5 * 3 if k < len(actor) else 1.0) * more
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    likely = torch.stack(choice).argmax(-1)
    same = sum(float((likely[i] == likely[j]).float().mean()) for i in range(3) for j in range(3) if i != j) / 6
    assert float(losses["synchrony"]) == pytest.approx(same, abs=1e-5)


# ---- use -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MADDPG, TeamReg, CoachReg])
def test_files_and_predictions(cls: Any, tmp_path: Path) -> None:
    model = cls("MlpPolicy", team(), **SMALL).learn(160)
    assert model._n_updates > 0 and all(torch.isfinite(p).all() for p in model.policy.parameters())
    model.save(tmp_path / "m")
    again = cls.load(tmp_path / "m")
    obs, _ = team().reset(seed=1)
    a, _ = model.predict(obs, deterministic=True)
    b, _ = again.predict(obs, deterministic=True)
    assert torch.equal(a, b) and tuple(a.shape) == (4, 2, 2)
    one, _ = again.predict(obs[0].numpy(), deterministic=True)
    np.testing.assert_allclose(one, a[0].numpy(), atol=1e-6)
    for key, kept in model._config.items():
        if key not in ("policy", "device"):
            assert again._config[key] == kept, key


@pytest.mark.parametrize("agent", ["maddpg", "coachreg"])
def test_a_run_resumes_to_the_same_bits(agent: str, tmp_path: Path) -> None:
    args = {"learning_starts": 32, "batch_size": 16, "buffer_size": 1000, "policy_kwargs": {"net_arch": [16, 16]}}
    base: dict[str, Any] = {"env": "cairn/Compromise-v0", "agent": agent, "num_envs": 4, "agent_args": args}
    train(TrainConfig(**base, steps=400, run=str(tmp_path / "a")))
    train(TrainConfig(**base, steps=200, run=str(tmp_path / "b")))
    resume(tmp_path / "b", steps=400)
    assert evaluate(tmp_path / "a", 5) == evaluate(tmp_path / "b", 5)


def test_each_agent_is_paid_its_own() -> None:
    model = MADDPG("MlpPolicy", team("cairn/Compromise-v0"), **SMALL)
    model.learn(400)
    own = model.replay_buffer.lived["agent_reward"][:100]
    assert tuple(own.shape) == (100, 4, 2)
    batch = model.replay_buffer.sample(32)
    assert tuple(batch.rewards.shape) == (32, 1, 2)
    shaped = MADDPG("MlpPolicy", team("cairn/Compromise-v0"), "2.0*task", **SMALL)
    shaped.learn(100)
    assert tuple(shaped.replay_buffer.sample(32).rewards.shape) == (32, 1), "an expression pays all alike"


def from_parts(seen: Any, acts: Any) -> Any:
    """A team of two that has spaces and nothing else."""
    env = TeamEnv(2, spaces.Box(0, 1, (2, *seen.shape), np.float32), spaces.MultiDiscrete([2, 2]))
    env.agents, env.agent_observation_space, env.agent_action_space = ("a", "b"), seen, acts
    return env


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="continuous=True"):
        TeamReg("MlpPolicy", team("cairn/Gems-v0"))
    with pytest.raises(ValueError, match="observe vectors"):
        MADDPG("MlpPolicy", from_parts(spaces.Box(0, 1, (2, 2), np.float32), spaces.Discrete(2)))
    CoachReg("MlpPolicy", team("cairn/Gems-v0"), **SMALL).learn(64)
    with pytest.raises(TypeError, match="agent axis"):
        MADDPG("MlpPolicy", "Pendulum-v1")
    with pytest.raises(ValueError, match="divide the first layer"):
        CoachReg("MlpPolicy", team(), **SMALL, masks=3)
    MADDPG("MlpPolicy", team("cairn/SimpleSpread-v0", continuous=True), **SMALL).learn(64)
