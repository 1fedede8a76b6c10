"""Office world's figures: the score by hand, the tables, and what stands in for the authors' libraries."""

from pathlib import Path

import pytest
import torch

from cairn.benchmarks import office, office_reference

# A clone in small, in the idiom of the authors' libraries: a walk of three cells, cut after four steps.
WALK = """
import gym
from gym import spaces
from gym.envs.registration import register
import numpy as np

class Walk(gym.Wrapper):
    def __init__(self):
        super().__init__(Line())
        self.parts = spaces.Dict({'features': self.env.observation_space, 'bit': spaces.Box(0, 1, (1,), np.uint8)})
        assert gym.spaces.flatdim(self.parts) == 3 and self.parts['bit'].shape == (1,)
    def reset(self):
        return self.show(self.env.reset())
    def show(self, obs):
        return gym.spaces.flatten(self.parts, {'features': obs, 'bit': np.ones(1)})
    def step(self, action):
        obs, reward, done, info = self.env.step(action)
        return self.show(obs), reward, done, info
    def test_optimal_policies(self, num_episodes, epsilon, gamma):
        return [num_episodes * epsilon, gamma]

class Line(gym.Env):
    def __init__(self):
        self.action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(low=0, high=3, shape=(2,), dtype=np.uint8)
    def reset(self):
        self.at = 0
        return np.array([0, 7])
    def step(self, action):
        self.at += action
        return np.array([self.at, 7]), int(self.at == 3), self.at == 3, {}

register(id='Office-v0', entry_point='envs:Walk', max_episode_steps=4)
"""
RUN = """
import random
import gym
import tensorflow as tf
from baselines import logger
from baselines.bench import Monitor
from baselines.common.vec_env.vec_video_recorder import VecVideoRecorder
from baselines.common.cmd_util import arg_parser, parse_unknown_args
import envs

def main(args):
    parser = arg_parser()
    parser.add_argument('--env')
    args, rest = parser.parse_known_args(args)
    logger.configure(None)
    assert parse_unknown_args(rest) == {'lr': '0.5'} and gym.envs.registry.all()[0].entry_point == 'envs:Walk'
    env = Monitor(gym.make(args.env), logger.get_dir(), allow_early_resets=True)
    env.seed(None)
    print('their chatter')
    for moves in ((1, 1, 1), (0, 1, 0, 1), (1, 0, 1, 1)):
        assert tuple(env.reset()) == (0, 7, 1)
        dones = [env.step(move)[2] for move in moves]
        assert dones == [False] * (len(moves) - 1) + [True] and env.at == sum(moves)
    env.reset(), env.step(random.randrange(2))
    env.close()
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone" / "reward_machines"
    root.mkdir(parents=True)
    (root / "envs.py").write_text(WALK)
    (root / "run.py").write_text(RUN)
    return root.parent


def test_the_authors_code_runs_on_what_stands_in(clone: Path) -> None:
    rows = office_reference.episodes(clone, 3, ["--env=Office-v0", "--lr=0.5"])
    assert rows == [(1.0, 3), (0.0, 4), (1.0, 4)]  # the third ends at the limit, and the last one not at all
    assert office_reference.optimum(clone, 5) == [0.5, 0.9]


def test_what_stops_the_authors_code_is_told(clone: Path) -> None:
    with pytest.raises(SystemExit, match="(?s)authors' code stopped.*AssertionError"):
        office_reference.episodes(clone, 3, ["--env=Office-v0", "--lr=0.1"])


def test_only_the_commit_is_run(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a clone of RodrigoToroIcarte/reward_machines at 3116c2f"):
        office.main(["--reference", str(clone), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_score_is_of_the_last_400_episodes_that_have_ended() -> None:
    n = torch.arange(450)
    episodes = {
        "lane": torch.zeros_like(n), "episode": n, "step": 4 * (n + 1), "reward": (n >= 40).double(),
        "length": torch.full_like(n, 4),
    }  # fmt: skip
    best = torch.tensor([0.25, 0.5], dtype=torch.float64)
    # Ended by step 1,000: 250, of which 40 paid nothing; 1 of each other in even episodes, .5 in odd ones.
    assert office.curve(episodes, best, 0, 1000) == pytest.approx([0.75 * 210 / 250])
    assert office.curve({**episodes, "step": 2 * (n + 1)}, best, 0, 1000)[0] == pytest.approx(0.75)
    assert office.curve(episodes, best, 1, 1000) == [0.0]


def test_the_authors_runs_are_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def episodes(folder: Path, seed: int, options: list[str]) -> list[tuple[float, int]]:
        asked.append(" ".join(options))
        return [(1.0, 20), (0.0, 20)] * 30

    monkeypatch.setattr(office_reference, "check", lambda folder: None)
    monkeypatch.setattr(office_reference, "optimum", lambda folder, number: [0.07, 0.03, 0.03, 0.03])
    monkeypatch.setattr(office_reference, "episodes", episodes)
    small = ["--steps", "1000", "--out", str(tmp_path), "--agents", "ql"]
    office.main([*small, "--seeds", "1"])
    for _ in range(2):  # the second finds all done
        office.main([*small, "--reference", str(tmp_path), "--reference-seeds", "2"])
    assert len(asked) == 2 * 2 * 2  # seeds, rates, methods: with and without -V
    common = "--alg=qlearning --env=Office-v0 --num_timesteps=1000 --gamma=0.9 --epsilon=0.1 --lr=0.1 --q_init=2.0"
    assert asked[0] == common and asked[2] == f"{common} --use_rs"
    coffee, _, both, _ = office.optimum("as run").tolist()
    table = (tmp_path / "office.md").read_text()
    mean = (13 * 0.05 / coffee + 12 * 0.05 / both) / 50  # 1 over 20 steps in the 13 and 12 episodes that paid
    assert f"| ql | 0.04 | {mean:.2f} ({mean:.2f}, {mean:.2f}) |" in table
    assert (tmp_path / "office.png").stat().st_size > 10_000


def test_what_scores_are_divided_by() -> None:
    """The four figures of the authors' export, from their simulation; as written the coffee alone takes 15 steps."""
    theirs = [0.07293, 0.03137, 0.03134, 0.02807]
    assert office.optimum("as run").tolist() == pytest.approx(theirs, rel=4e-3)
    assert 0.05 < office.optimum("as written")[0] < 0.055


@pytest.mark.parametrize("tasks, paid", [("as run", 1.0), ("as written", 0.0)])
def test_what_a_plant_pays_in_the_last_stage(tasks: str, paid: float) -> None:
    machine = office.four_tasks(tasks)
    plant = torch.tensor(1 << list(machine.labels).index("plant"))
    cup = torch.tensor(machine.states.index("coffee:1"))
    after, reward = machine.step(cup, plant)
    assert float(reward) == paid and bool(machine.final[after])
    first = torch.tensor(machine.states.index("coffee:0"))
    assert float(machine.step(first, plant)[1]) == 0.0
