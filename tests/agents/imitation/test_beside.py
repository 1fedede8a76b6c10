"""PPO with demonstrations: each option does what it says, two trajectories help, the balance moves as derived."""

import pytest
import torch

from cairn.agents import PPO
from cairn.agents.data import collect, solver
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.imitation import DemoPPO
from cairn.agents.imitation.beside import cosine
from cairn.envs.grid.engine import GridBatch

NAME = "MiniGrid-Empty-5x5-v0"
PLAIN = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "seed": 0}


@pytest.fixture(scope="module")
def demos():
    env = GridBatch(NAME, 2)
    return collect(solver(env), env, 2, only_success=True)


def make(demos, lanes=4, **options):
    return DemoPPO("MlpPolicy", GridBatch(NAME, lanes), demos, **{**PLAIN, "demo_batch": 32, **options})


def test_without_options_it_is_ppo(demos):
    ours = make(demos).learn(128)
    theirs = PPO("MlpPolicy", GridBatch(NAME, 4), **PLAIN).learn(128)
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters()):
        assert torch.equal(a, b)


def test_pretraining_clones_once_and_before_anything_is_lived(demos):
    model, seen = make(demos, pretrain=150), []
    clone = model._clone
    model._clone = lambda count: seen.append((count, model.num_timesteps)) or clone(count)
    before = model.cloning_loss(64).item()
    model.learn(64)
    model.learn(64, reset_num_timesteps=False)
    assert seen == [(150, 0)] and model.cloning_loss(64).item() < before / 3
    act = lambda obs: model.policy.act(obs, True)  # noqa: E731
    assert evaluate_batch(act, GridBatch(NAME, 4), 4, seed=1).success == 1.0  # the same room every time


def test_cloning_beside_after_every_update_until_it_fades(demos):
    model, counts = make(demos, beside=3, fade=0.5), []
    model._clone = lambda count: counts.append(count) or torch.zeros(())
    model.learn(64 * 4)
    assert counts == [3, 3]  # of four updates, at a quarter and a half of training


def test_the_balanced_loss_by_hand(demos):
    model = make(demos, balance=0.25).learn(64)
    rollout = model.rollout
    batch = {
        "obs": {k: v[:8].flatten(0, 1) for k, v in rollout.obs.items()},
        **{name: getattr(rollout, name)[:8].flatten(0, 1) for name in ("action", "log_prob", "value")},
    }
    batch |= {"target": batch["value"] + 1, "advantage": torch.randn(32)}
    model.cloning_loss = lambda rows: torch.tensor(3.0 + rows)
    model._current_progress_remaining = 0.5
    mixed, _ = model._loss(batch, 0.2, None)
    plain, _ = PPO._loss(model, batch, 0.2, None)
    assert mixed.item() == pytest.approx(0.75 * plain.item() + 0.25 * 35.0, rel=1e-5)


def test_the_learned_balance_follows_the_gradients_and_the_entropy(demos):
    model = make(demos, balance="learned", balance_entropy=0.0, balance_rate=0.1).learn(64)

    def move(*gradients):
        given = iter([torch.tensor(g) for g in gradients])
        model._gradient = lambda loss: next(given)  # imitation's, the aim's, PPO's own
        model._move_balance()
        return model.mu

    model.mu = 0.5
    assert move([1.0, 0.0], [2.0, 0.0], [0.0, 3.0]) == pytest.approx(0.6)
    assert move([-1.0, 0.0], [2.0, 0.0], [5.0, 0.0]) == pytest.approx(0.4)
    model.balance_rate, model.balance_entropy, model.entropy_target = 0.0, 0.1, 100.0
    assert move([1.0, 1.0], [1.0, 1.0], [1.0, 1.0]) == 0.0  # far less random than wanted: PPO alone
    assert cosine(torch.zeros(2), torch.ones(2)).item() == 0.0


def test_the_direction_is_the_derivative_of_the_aim_by_the_balance(demos):
    """By finite differences: what one step of the mixed loss does to the surrogate on other rows."""
    model = make(demos, balance="learned").learn(64)
    own, other = model._rows(), model._rows()
    imitation, mine = model._gradient(model.cloning_loss(32)), model._gradient(model._surrogate(own)[0])
    aim = model._gradient(model._surrogate(other)[0])
    rate, start = 1e-3, torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()

    def after(mu):
        step = start - rate * ((1 - mu) * mine + mu * imitation)
        torch.nn.utils.vector_to_parameters(step, model.policy.parameters())
        return model._surrogate(other)[0].item()

    assert (after(0.0) - after(1.0)) / rate == pytest.approx((aim @ (imitation - mine)).item(), rel=0.1, abs=2e-3)


@pytest.mark.parametrize("options", [{"pretrain": 5, "beside": 2}, {"balance": "learned"}, {"balance": 0.5}])
def test_a_resumed_run_is_the_uninterrupted_one(demos, options):
    whole = make(demos, **options).learn(256)
    state, other = make(demos, **options).learn(128).training_state(), make(demos, **options)
    other.load_training_state(state)
    other.learn(128, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), other.policy.parameters()):
        assert torch.equal(a, b)
    assert other.mu == whole.mu


def test_files_the_command_line_and_bad_input(demos, tmp_path, monkeypatch):
    from cairn.cli import main

    monkeypatch.chdir(tmp_path)
    demos.save("data")
    args = ["--agent-args", "demonstrations=data", "n_steps=16", "pretrain=3", 'balance="learned"']
    base = ["train", f"cairn/{NAME}", "--agent", "demo_ppo", "--steps", "64", "--num-envs", "2", "--run", "r"]
    assert main([*base, *args]) == 0 and main(["resume", "r", "--steps", "96"]) == 0
    model = make("data", balance=0.3, beside=2)
    model.save("m")
    back = DemoPPO.load("m", env=GridBatch(NAME, 4))
    assert (back.mu, back.beside, back.demos.episodes) == (0.3, 2, 2)
    for bad in ({"balance": "meta"}, {"balance": 1.5}, {"pretrain": -1}, {"fade": 2}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            make(demos, **bad)
    with pytest.raises(ValueError, match="another environment"):
        DemoPPO("MlpPolicy", "CartPole-v1", demos)
    with pytest.raises(ValueError, match="no demonstrations"):
        DemoPPO("MlpPolicy", GridBatch(NAME, 2), pretrain=2, n_steps=16).learn(10)
