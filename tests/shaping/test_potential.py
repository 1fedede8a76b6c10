import warnings

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import EpisodicCount, Potential, RolloutSeat, Stretch, Task, World
from cairn.shaping.laws import LawBroken, check_potential, check_term, walk
from cairn.shaping.stretch import FactError


def world(gamma: float | None = 0.5, **kwargs: object) -> World:
    return World(gym.spaces.Box(-9, 9, (1,)), gym.spaces.Discrete(2), gamma=gamma, **kwargs)  # type: ignore[arg-type]


def episode(values: list[float], terminated: bool) -> Stretch:
    """One lane through the potentials ``values``."""
    obs = torch.tensor(values)[:, None, None]
    steps = len(values) - 1
    end = torch.zeros(steps, 1, dtype=torch.bool)
    end[-1] = True
    start = torch.zeros(steps, 1, dtype=torch.bool)
    start[0] = True
    return Stretch.make(
        obs=obs[:-1], next_obs=obs[1:], reward=torch.zeros(steps, 1), start=start,
        terminated=end & terminated, truncated=end & (not terminated),
    )  # fmt: skip


def test_a_hand_computed_rollout() -> None:
    # phi = 1, 3, 2, 8 and gamma .5: .5*3-1 = .5, .5*2-3 = -2, then .5*8-2 = 2 where cut, 0-2 = -2 where terminated.
    for terminated, last in ((True, -2.0), (False, 2.0)):
        seat = RolloutSeat(Potential(lambda obs: obs[:, 0]), world())
        reward, _ = seat(episode([1.0, 3.0, 2.0, 8.0], terminated), 0)
        assert reward[:, 0, 0].tolist() == [0.5, -2.0, last]


@pytest.mark.parametrize("i", range(len(Potential.examples())))
@pytest.mark.parametrize("seed", range(3))
def test_telescoping(i: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one example has a discount of its own
        check_potential(lambda: Potential.examples()[i], seed=seed, gamma=0.95)  # type: ignore[arg-type, return-value]


class Unmasked(Potential):
    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return self.gamma * self.value(x, of_next=True) - self.value(x)


class MaskedWhereCut(Potential):
    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return self.gamma * torch.where(x.done, 0.0, self.value(x, of_next=True)) - self.value(x)


@pytest.mark.parametrize("mutant", [Unmasked, MaskedWhereCut])
def test_telescoping_catches_a_wrong_mask_which_the_laws_cannot(mutant: type[Potential]) -> None:
    check_term(lambda: mutant("distance"))
    with pytest.raises(LawBroken, match="does not telescope"):
        check_potential(lambda: mutant("distance"))


def test_the_discount_is_the_agents_or_given_and_a_difference_is_said() -> None:
    with pytest.raises(ValueError, match=r"gamma=0\.99"):
        RolloutSeat(Potential("distance"), world(gamma=None))
    with pytest.warns(UserWarning, match=r"gamma=0.9\) in an agent with gamma=0.5"):
        RolloutSeat(Potential("distance", gamma=0.9), world())
    assert RolloutSeat(Potential("distance"), world()).reward.order[0].gamma == 0.5  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="between 0 and 1"):
        Potential("distance", gamma=1.5)


def test_not_in_a_channel_without_ends() -> None:
    with pytest.raises(ValueError, match="episode ends"):
        RolloutSeat(Potential("distance").into("curiosity", episodic=False), world())


def test_what_breaks_telescoping_is_said() -> None:
    for make in (lambda p: p.clip(0, 1), lambda p: p.normalise(), lambda p: p.gate(Task())):
        with pytest.warns(UserWarning, match="no longer telescopes"):
            make(Potential("distance"))


def test_a_module_is_state_and_can_be_differentiated() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, obs: Tensor) -> Tensor:
            out: Tensor = self.layer(obs)[:, 0]
            return out

    net = Net()
    seat = RolloutSeat(Potential(net), world())
    x = episode([1.0, 2.0], True)
    seat.reward.evaluate(x)[seat.reward.order[0]].sum().backward()
    assert net.layer.weight.grad is not None
    saved = seat.state()
    before = seat(x, 0)[0]
    with torch.no_grad():
        net.layer.weight += 1
    assert not torch.equal(seat(x, 0)[0], before)
    seat.load(saved)
    assert torch.equal(seat(x, 0)[0], before)


def test_wrong_shapes_and_names_are_explained() -> None:
    _, x = walk(0, dict_obs=False)
    wide, _ = walk(0, dict_obs=False)
    for phi, message in ((lambda obs: obs[0], "function of a batch"), (lambda obs: obs, "function of a batch")):
        with pytest.raises(ValueError, match=message):
            RolloutSeat(Potential(phi), wide)(x, 0)
    with pytest.raises(FactError, match="did you mean 'distance'"):
        RolloutSeat(Potential("distanse"), wide)(x, 0)
    with pytest.raises(TypeError, match="phi is a function"):
        Potential(3)  # type: ignore[arg-type]


def test_in_an_expression() -> None:
    assert (
        Task() + Potential("distance", 0.9) + EpisodicCount()
    ).text == 'task + potential("distance", 0.9) + episodic_count'
    assert Potential(lambda obs: obs).text is None
