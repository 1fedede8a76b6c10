"""Convolutional policies beside torch's own convolutions, one genome at a time; compiled returns; runs on pictures."""

import math

import pytest
import torch
import torch.nn.functional as functional
from gymnasium import spaces

from cairn.envs.areas.maze import HardMazeBatch
from cairn.envs.kinds import Pixels
from cairn.qd import CNN, MLP, Evaluator, load_policies
from cairn.qd.config import SearchConfig
from cairn.qd.distributed import _described
from cairn.qd.running import search

WHEELS = spaces.Box(-1.0, 1.0, (2,))


def by_hand(policy, genome, picture):
    """One network by ``conv2d``, its genome taken apart."""
    x, at = 1 - picture.permute(2, 0, 1).double() / 255, 0
    for channels, kernel, stride in policy.layers:
        shape = (kernel, kernel, x.shape[0], channels)
        count = math.prod(shape)
        weight = genome[at : at + count].double().reshape(shape).permute(3, 2, 0, 1) * 2 / (count / channels) ** 0.5
        bias = 0.2 * genome[at + count : at + count + channels].double()
        at += count + channels
        x = functional.conv2d(x[None], weight, bias, stride)[0].relu()
    x = x.permute(1, 2, 0).reshape(-1)
    for width in (*policy.hidden, 2):
        count = len(x) * width
        weight = genome[at : at + count].double().reshape(len(x), width) * 2 / len(x) ** 0.5
        x = torch.tanh((x @ weight + 0.2 * genome[at + count : at + count + width]) / 2)
        at += count + width
    assert at == policy.size
    return x


@pytest.mark.parametrize(
    ("side", "layers", "hidden"),
    [(32, ((8, 4, 4), (16, 3, 2)), ()), (19, ((3, 5, 2), (4, 2, 1)), (7, 5)), (9, (), (3,))],
)
def test_they_are_torchs_convolutions(side, layers, hidden):
    policy = CNN(Pixels((side, side + 2, 3)), WHEELS, layers, hidden)
    generator = torch.Generator().manual_seed(0)
    genomes = torch.randn(6, policy.size, generator=generator)
    pictures = torch.randint(0, 256, (6, side, side + 2, 3), dtype=torch.uint8, generator=generator)
    actions = policy.act(policy.unpack(genomes), pictures)
    expected = torch.stack([by_hand(policy, *pair) for pair in zip(genomes, pictures)])
    assert torch.allclose(actions.double(), expected, atol=1e-5) and actions.std() > 0.1
    assert policy.inputs == pictures[0].numel()


def test_what_they_cannot_do():
    picture = Pixels((16, 16, 3))
    with pytest.raises(TypeError, match="pictures"):
        CNN(spaces.Box(0.0, 1.0, (16, 16, 3)), WHEELS)
    with pytest.raises(ValueError, match="does not fit"):
        CNN(picture, WHEELS, ((4, 4, 4), (4, 5, 1)))
    for layers, hidden in ((((4, 4),), ()), (((4, 4, 0),), ()), ((), (0,)), (((True, 4, 4),), ())):
        with pytest.raises(ValueError, match="at least 1"):
            CNN(picture, WHEELS, layers, hidden)
    said = _described(CNN(picture, WHEELS, ((4, 4, 4),), (3,)))
    assert (
        said.pop("kind") == "cnn" and CNN(picture, WHEELS, **said).size == CNN(picture, WHEELS, ((4, 4, 4),), (3,)).size
    )


def test_returns_in_compiled_code_are_those_of_the_steps():
    env = HardMazeBatch(40, reward="progress", max_episode_steps=60)
    policy = MLP(env.single_observation_space, env.single_action_space, bias="unit")
    genomes = 2 * torch.randn(40, policy.size, generator=torch.Generator().manual_seed(0))
    quick, slow = Evaluator(env, policy), Evaluator(env, policy, compiled=False)
    assert quick._episodes is not None
    a, b = quick(genomes), slow(genomes)
    close = (a.measures - b.measures).abs().amax(-1) < 1e-4
    assert close.float().mean() > 0.9 and b.objective.std() > 0.02
    assert torch.allclose(a.objective[close], b.objective[close], atol=1e-3)
    for other in (HardMazeBatch(2, ticks=2), HardMazeBatch(2, sees="view")):
        assert Evaluator(other, MLP(other.single_observation_space, WHEELS))._episodes is None


def test_a_run_on_pictures(tmp_path):
    config = SearchConfig(
        env="cairn/DeceptiveMazePixels-v0", algorithm="ga-ns", evaluations=16, run=str(tmp_path / "run"),
        algorithm_args={"population": 8, "parents": 2}, env_args={"max_episode_steps": 3},
    )  # fmt: skip
    done = search(config)
    assert done.evaluations == 16 and math.isfinite(done.scores["best"])
    elite = next(iter(load_policies(tmp_path / "run").values()))
    assert isinstance(elite.policy, CNN)
    pictures = HardMazeBatch(3, sees="picture", pixels=32).reset(seed=0)[0]
    actions, _ = elite.predict(pictures)
    assert actions.shape == (3, 2) and torch.allclose(elite.predict(pictures[0])[0], actions[0], atol=1e-6)
