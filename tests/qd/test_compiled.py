"""Episodes in compiled code beside the same episodes step by step."""

import pytest
import torch

from cairn.envs.areas.make import make_vec
from cairn.envs.wrappers import TimeLimit
from cairn.qd import MLP, Constant, Evaluator


def both(world, steps, count=64, hidden=(5, 5), bias="layer", scale=2.0, seed=0):
    """What compiled code and the step-by-step batch give for the same networks."""
    env = make_vec(world, count, max_episode_steps=steps)
    policy = MLP(env.single_observation_space, env.single_action_space, hidden, bias)
    genomes = scale * torch.randn(count, policy.size, generator=torch.Generator().manual_seed(seed))
    quick, slow = Evaluator(env, policy), Evaluator(env, policy, compiled=False)
    assert quick._episodes is not None and slow._episodes is None
    found = quick(genomes), slow(genomes)
    assert quick.ledger == slow.ledger or world == "arm"
    return found


@pytest.mark.parametrize("bias", ["layer", "unit"])
@pytest.mark.parametrize("hidden", [(5, 5), (), (25, 3, 7)])
def test_the_arm(hidden, bias):
    quick, slow = both("arm", None, hidden=hidden, bias=bias)
    same = quick.length == slow.length  # a collision may hang on the last digit
    assert same.float().mean() > 0.95 and len(set(quick.length.tolist())) > 10
    assert (quick.measures - slow.measures)[same].abs().max() < 1e-3
    assert torch.equal(quick.area[same], slow.area[same])
    assert (quick.objective - slow.objective)[same].abs().max() < 0.05
    assert quick.measures.std(0).min() > 0.02


SHARES = {"arm": (0.998, 2e-6), "maze": (0.97, 1e-3), "curling": (0.99, 1e-2)}


@pytest.mark.parametrize("world", SHARES)
def test_thousands_of_networks(world):
    """Whole episodes of many: nearly all end at the same place, and what chaos there is hangs on a touch."""
    hidden, steps = ((5, 5, 5), None) if world == "curling" else ((5, 5), None)
    quick, slow = both(world, steps, count=1500, hidden=hidden, scale=1.0, seed=11)
    share, within = SHARES[world]
    same = (quick.length == slow.length) & ((quick.measures - slow.measures).abs().amax(-1) < within)
    assert same.float().mean() >= share
    assert torch.equal(quick.area[same], slow.area[same])
    # Places are as they should be on the whole too: no side, and no end of an episode, is favoured by the others.
    assert (quick.measures.mean(0) - slow.measures.mean(0)).abs().max() < 0.01


@pytest.mark.parametrize("world", SHARES)
def test_neighbours_do_not_matter(world):
    """Bit for bit the same, whoever shares the vector and whenever an episode's lane becomes free."""
    env = make_vec(world, 1, max_episode_steps=70)
    policy = MLP(env.single_observation_space, env.single_action_space, (5, 5))
    run = Evaluator(env, policy)._episodes
    genomes = torch.randn(83, policy.size, generator=torch.Generator().manual_seed(5))
    outcome, length, state = run(genomes)
    order = torch.randperm(83, generator=torch.Generator().manual_seed(6))
    again = run(genomes[order])
    assert torch.equal(again[0], outcome[order]) and torch.equal(again[1], length[order])
    for at in (0, 40, 82):
        alone = run(genomes[at : at + 1])
        assert torch.equal(alone[0][0], outcome[at]) and alone[1][0] == length[at]
        assert all(torch.equal(value[0], state[name][at]) for name, value in alone[2].items())


@pytest.mark.parametrize("world", SHARES)
def test_the_last_pictures(world):
    """What a search by pictures sees: as step by step, but for pixels on an edge that a rounding moves."""
    env = make_vec(world, 40, max_episode_steps=60, render_mode="rgb_array", pixels=64)
    policy = MLP(env.single_observation_space, env.single_action_space)
    genomes = torch.randn(40, policy.size, generator=torch.Generator().manual_seed(2))
    quick, slow = (Evaluator(env, policy, frames=True, compiled=c)(genomes) for c in (True, False))
    assert quick.frames.shape == slow.frames.shape == (40, 64, 64, 3) and quick.frames.dtype == torch.uint8
    other = (quick.frames != slow.frames).any(-1).flatten(1).sum(-1)
    assert (other <= 2).float().mean() > 0.9
    assert len({bytes(frame.flatten().tolist()) for frame in quick.frames}) > 10  # they are not all of one state


def test_the_arm_is_paid():
    """A cap of one step, and areas that are where hands are after it."""
    env = make_vec("arm", 8, max_episode_steps=1)
    policy = MLP(env.single_observation_space, env.single_action_space)
    genomes = torch.randn(8, policy.size, generator=torch.Generator().manual_seed(0))
    places = Evaluator(env, policy, compiled=False)(genomes).measures
    env.areas = torch.tensor([[*places[3].tolist(), 1e-4], [*places.mean(0).tolist(), 0.5]])[[0]]
    found = Evaluator(env, policy)(genomes)
    assert found.area[3] == 0 and found.objective[3] > 0.9 and found.length.tolist() == [1] * 8


@pytest.mark.parametrize("bias", ["layer", "unit"])
def test_the_maze(bias):
    quick, slow = both("maze", 60, bias=bias)
    assert torch.equal(quick.length, slow.length) and quick.length.eq(60).all()
    close = (quick.measures - slow.measures).abs().amax(-1) < 1e-4
    assert close.float().mean() > 0.95  # whether a wall is met may hang on the last digit
    assert torch.equal(quick.area[close], slow.area[close])
    assert quick.measures.std(0).min() > 0.02


def test_robots_that_meet_walls():
    """Straight on, whatever the sensors say: many stop, with the bumpers of one side pressed."""
    quick, slow = both("maze", 200, count=200, hidden=(), scale=1.0, seed=3)
    close = (quick.measures - slow.measures).abs().amax(-1) < 1e-3
    assert close.float().mean() > 0.9
    env = make_vec("maze", 200)
    distance = env.nearest(quick.measures * 600)[0]
    assert (distance >= 10 - 1e-2).all() and (distance < 14).float().mean() > 0.2


@pytest.mark.parametrize("bias", ["layer", "unit"])
def test_curling(bias):
    """Arms that hit the ball and arms that miss it; the edge of the table and the joints' limits are met."""
    quick, slow = both("curling", None, count=400, hidden=(5, 5, 5), bias=bias)
    assert torch.equal(quick.length, slow.length) and quick.length.eq(500).all()
    moved = (slow.measures - torch.tensor([-0.5, 0.2])).norm(dim=-1) > 0.1
    close = (quick.measures - slow.measures).abs().amax(-1) < 1e-3
    assert 0.2 < moved.float().mean() < 1 and close.float().mean() > 0.9  # a bounce magnifies the last digit
    assert close[moved].float().mean() > 0.8 and torch.equal(quick.area[close], slow.area[close])
    assert (quick.objective - slow.objective)[close].abs().max() < 0.01


def test_curling_for_a_while():
    """A short time in which no rounding grows: every lane is at the same place, hit or not."""
    for steps in (1, 40, 90):
        quick, slow = both("curling", steps, count=400, hidden=(), scale=3.0, seed=steps)
        assert ((quick.measures - slow.measures).abs().amax(-1) < 1e-4).float().mean() > 0.995
    assert (slow.measures - torch.tensor([-0.5, 0.2])).norm(dim=-1).gt(0.05).float().mean() > 0.1


def test_the_goal_is_in_the_observation_order():
    """A network that turns by one sensor alone: a permutation of the sensors would send it elsewhere."""
    for k in range(5):
        env = make_vec("maze", 2, max_episode_steps=120)
        policy = MLP(env.single_observation_space, env.single_action_space, ())
        genome = torch.zeros(2, policy.size)
        genome[:, -1] = 1.0
        genome[0, 2 * k], genome[1, 2 * k + 1] = -3.0, -3.0
        ends = [Evaluator(env, policy, compiled=c)(genome).measures for c in (True, False)]
        assert torch.allclose(*ends, atol=1e-3)


def test_when_there_is_none():
    env = make_vec("arm", 4)
    policy = MLP(env.single_observation_space, env.single_action_space)
    still = Constant(env.single_observation_space, env.single_action_space)
    repertoire = make_vec("repertoire", 4)
    bends = MLP(repertoire.single_observation_space, repertoire.single_action_space)
    assert Evaluator(env, policy)._episodes is not None
    for evaluator in (
        Evaluator(env, still),
        Evaluator(repertoire, bends),
        Evaluator(env, MLP(env.single_observation_space, env.single_action_space, activation="relu")),
        Evaluator(env, policy, cap=50),
        Evaluator(env, policy, measures=lambda x: x.obs[-1, :, :2]),
        Evaluator(TimeLimit(env, 50), policy),
    ):
        assert evaluator._episodes is None


def test_broken_genomes_are_left_out():
    env = make_vec("maze", 4, max_episode_steps=10)
    policy = MLP(env.single_observation_space, env.single_action_space)
    genomes = torch.zeros(3, policy.size)
    genomes[1, 0] = torch.inf
    evaluator = Evaluator(env, policy)
    found = evaluator(genomes)
    assert found.valid.tolist() == [True, False, True] and evaluator.ledger.invalid_genomes == 1
