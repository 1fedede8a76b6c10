"""Adam is torch's to the bit, and comes without torch's compiler."""

import subprocess
import sys

import torch

from cairn.shaping.adam import Adam

CODE = """
import sys
import gymnasium as gym, cairn
from cairn.agents import PPO, DQN
model = PPO("MlpPolicy", gym.make_vec("cairn/MiniGrid-KeyCorridorS3R1-v0", num_envs=8), "task + 0.01*noveld", n_steps=8,
            batch_size=32, n_epochs=1)
model.learn(64)
model.set_parameters(model.get_parameters())
DQN("MlpPolicy", "CartPole-v1", learning_starts=8, batch_size=8).learn(16)
print([name for name in ("torch._dynamo", "sympy", "matplotlib", "pandas", "tyro") if name in sys.modules])
"""


def test_it_moves_parameters_as_torchs_does() -> None:
    torch.manual_seed(0)
    start, results = torch.randn(5, 3), []
    for kind in (Adam, torch.optim.Adam):
        p, q = start.clone().requires_grad_(), start[0].clone().requires_grad_()
        adam = kind([p], lr=0.1, fused=True)
        adam.add_param_group({"params": [q], "lr": 0.2})
        for _ in range(3):
            adam.zero_grad()
            loss = (p**2).sum() + (p[0] * q).sum()
            loss.backward()
            adam.step(lambda: 7.0)
        other = kind([p], lr=0.1, fused=True)
        other.add_param_group({"params": [q]})
        other.load_state_dict(adam.state_dict())
        assert other.param_groups[1]["lr"] == 0.2
        other.step()
        results += [p, q]
    assert torch.equal(results[0], results[2]) and torch.equal(results[1], results[3])


def test_torchs_hooks_are_called() -> None:
    adam, called = Adam([torch.ones(1, requires_grad=True)]), []
    adam.register_step_post_hook(lambda *_: called.append(1))
    assert adam.step(lambda: 7.0) == 7.0 and called == [1]


def test_training_imports_neither_torchs_compiler_nor_what_only_pictures_need() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pythons_collector_rests_while_packages_are_imported_and_goes_on_afterwards() -> None:
    import gc

    from cairn._lazy import collector_at_rest

    assert gc.isenabled()
    try:
        with collector_at_rest():
            assert not gc.isenabled()
            with collector_at_rest():
                pass
            assert not gc.isenabled()
            raise ImportError("no such package")
    except ImportError:
        assert gc.isenabled()
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
