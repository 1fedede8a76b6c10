"""Collecting: whole first episodes of every lane, from solvers, controllers, bots, models and run folders."""

import gymnasium as gym
import pytest
import torch

import cairn
from cairn.agents import PPO
from cairn.agents.config import ConfigError
from cairn.agents.data import Demonstrations, babyai_bot, collect, collect_single, from_sb3, solver
from cairn.agents.data.command import write
from cairn.agents.data.controllers import CONTROLLERS, scripted
from cairn.envs import from_gymnasium
from cairn.envs.grid.engine import GridBatch
from cairn.envs.spaces import tree_leaves


class Count(gym.Env):
    """Counts up; the task ends at a limit drawn at the reset, and the observation is the count."""

    observation_space, action_space = gym.spaces.Box(0, 100, (1,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.limit = 0, int(self.np_random.integers(1, 6))
        return self._obs(), {}

    def _obs(self):
        return self.observation_space.low + self.at

    def step(self, action):
        self.at += 1
        return self._obs(), float(self.at), self.at == self.limit, False, {}


def test_whole_first_episodes_with_their_last_observation():
    demos = collect(lambda obs, info: torch.zeros(4, dtype=torch.int64), from_gymnasium(Count, 4), 6, seed=1)
    assert demos.episodes == 6 and demos.about["episodes_played"] == 8
    assert len(set(demos.lengths.tolist())) > 1  # or the test shows nothing
    x = demos.stretch()
    assert torch.equal(x.obs[:, 0], x.t.float()) and torch.equal(x.next_obs[:, 0], x.t + 1.0)
    assert torch.equal(x.reward, x.t + 1.0) and int(x.terminated.sum()) == 6


def test_the_same_seed_gives_the_same_demonstrations_and_leaves_the_random_stream_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    act = lambda obs, info: torch.randint(2, (4,))  # noqa: E731
    a, b, c = (collect(act, from_gymnasium(Count, 4), 5, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.states, b.states) and torch.equal(a.action, b.action)
    assert a.lengths.tolist() != c.lengths.tolist() and torch.equal(torch.get_rng_state(), before)


def test_the_solvers_demonstrations_are_optimal():
    env = GridBatch("MiniGrid-DoorKey-6x6-v0", 4)
    demos = collect(solver(env), env, 6, seed=3, only_success=True)
    assert bool(demos.terminated[demos.lengths.cumsum(0) - 1].all()) and bool((demos.returns > 0.9).all())
    assert torch.allclose(demos.returns, 1 - 0.9 * demos.lengths.double() / env.max_steps, atol=1e-6)
    with pytest.raises(TypeError, match="native grid engine"):
        solver(from_gymnasium(Count, 1))


def test_failures_are_left_out_and_counted():
    env = GridBatch("MiniGrid-DoorKey-5x5-v0", 4, max_episode_steps=10)
    demos = collect(solver(env), env, 3, seed=0, only_success=True)
    assert bool((demos.lengths <= 10).all()) and bool((demos.returns > 0).all())
    with pytest.raises(ValueError, match="0 of 8 episodes ended in success"):
        collect(lambda obs, info: torch.zeros(4, dtype=torch.int64), env, 2, only_success=True, most=8)
    with pytest.raises(ValueError, match="does not tell success"):
        collect(lambda obs, info: torch.zeros(4, dtype=torch.int64), from_gymnasium(Count, 4), 2, only_success=True)


@pytest.mark.parametrize(
    ("name", "least"),
    [("CartPole-v1", 500), ("MountainCar-v0", -160), ("Acrobot-v1", -200), ("Pendulum-v1", -500),
     ("MountainCarContinuous-v0", 80), ("LunarLander-v3", 200)],
)  # fmt: skip
def test_controllers_solve_their_tasks(name, least):
    if name.startswith("LunarLander"):
        pytest.importorskip("Box2D", reason="of the extra bench")
    demos = collect(scripted(name), from_gymnasium(name, 2), 4, seed=0)
    assert float(demos.returns.mean()) >= least
    assert set(CONTROLLERS) >= {name}


def test_the_babyai_bot():
    env = gym.make("cairn/BabyAI-GoToLocal-v0")
    demos = collect_single(babyai_bot(), env, 2, seed=0, only_success=True)
    assert demos.episodes == 2 and bool((demos.returns > 0).all())
    assert demos.observation_space == cairn.envs.make_batch("cairn/BabyAI-GoToLocal-v0", 1).single_observation_space


def test_a_model_of_stable_baselines3():
    import stable_baselines3 as sb3

    demos = from_sb3(sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8), "CartPole-v1", 2)
    assert demos.episodes == 2 and demos.about == {"actor": "PPO", "seed": 0, "episodes_played": 2}
    ours = from_sb3(PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8), "CartPole-v1", 1)
    assert ours.episodes == 1


def test_the_command(tmp_path, capsys, monkeypatch):
    from cairn.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["collect", "solver", "--env", "cairn/MiniGrid-Empty-5x5-v0", "--episodes", "3", "--to", "d"]) == 0
    demos = Demonstrations.load("d")
    assert demos.episodes == 3 and demos.about["actor"] == "solver" and demos.about["env"].endswith("Empty-5x5-v0")
    assert main(["collect", "solver", "--env", "cairn/MiniGrid-Empty-5x5-v0", "--to", "d"]) == 2  # it exists
    run = ["train", "CartPole-v1", "--steps", "64", "--num-envs", "2", "--run", "r", "--agent-args", "n_steps=16"]
    assert main(run) == 0
    assert main(["collect", "r", "--episodes", "2", "--to", "e"]) == 0
    assert Demonstrations.load("e").episodes == 2 and "saved in e" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("actor", "env", "message"),
    [
        ("nobody", None, "no run folder, and no actor"),
        ("solver", None, "needs --env"),
        ("solver", "CartPole-v1", "native grid engine"),
        ("scripted", "cairn/MiniGrid-Empty-5x5-v0", "no scripted controller"),
        ("random", "evil:CartPole-v1", "names a module to import"),
    ],
)
def test_what_cannot_be_collected(tmp_path, actor, env, message):
    with pytest.raises(ConfigError, match=message):
        write(actor, tmp_path / "d", env, 2)
    assert not (tmp_path / "d").exists()


def test_random_actions_follow_the_seed(tmp_path):
    for name in ("a", "b"):
        write("random", tmp_path / name, "Pendulum-v1", 1, seed=4, num_envs=1)
    a, b = (Demonstrations.load(tmp_path / name) for name in "ab")
    assert torch.equal(a.action, b.action) and len(a.action.unique()) > 100
    assert all(torch.equal(x, y) for x, y in zip(tree_leaves(a.states), tree_leaves(b.states)))
