"""The benchmark that trains from pictures: the pole that goes on, what counts as upright, the table by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cairn.benchmarks import vision_train
from cairn.shaping import Stretch


def test_a_pole_that_has_fallen_goes_on_and_a_cart_that_leaves_does_not() -> None:
    env: Any = vision_train.Pole()
    env.reset(seed=0)
    env.state = torch.tensor([0.0, 0.0, 1.0, 0.0]).numpy()
    assert not env.step(1)[2] and abs(env.state[2]) > 0.9
    env.state = torch.tensor([2.39, 5.0, 0.0, 0.0]).numpy()
    assert env.step(1)[2]


def right(obs: Tensor) -> Tensor:
    return torch.ones(len(obs), dtype=torch.int64)


def balance(obs: Tensor) -> Tensor:
    return (0.1 * obs[:, 0] + 0.3 * obs[:, 1] + 1.5 * obs[:, 2] + obs[:, 3] > 0).long()


@pytest.mark.parametrize("policy", [right, balance])
def test_upright_is_of_all_steps_those_after_the_end_too(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_train, "acting", lambda model, deterministic: policy)
    model: Any = None
    told = vision_train.judged(model, 0)
    if policy is balance:
        assert told["upright"] == pytest.approx(1) and told["length"] == 200 and told["cosine"] > 0.99
        return
    # Pushed to the right all the time: the pole is down after some ten steps, and the cart leaves the track.
    assert told["length"] < 100 and 5 / 200 < told["upright"] < 20 / 200
    assert told["upright"] == pytest.approx(expected(), abs=1e-9)


def expected() -> float:
    """The same by single environments."""
    env, count = vision_train.batch(100, False), 0
    env.reset(seed=10_000)
    for lane in env.envs:  # type: ignore[attr-defined]
        inner: Any = lane.unwrapped
        for _ in range(200):
            ended = inner.step(1)[2]
            count += abs(inner.state[2]) < 0.2
            if ended:
                break
    return count / 20_000


def test_rewards_of_the_angle() -> None:
    facts = {"angle": torch.tensor([0.0, torch.pi])}
    zero = torch.zeros(2)
    x = Stretch.make(obs=zero, next_obs=zero, reward=zero, terminated=zero.bool(), facts=facts, next_facts=facts)
    assert vision_train.true(x).tolist() == pytest.approx([1, -1]) and vision_train.constant(x).tolist() == [1, 1]
    turned = torch.tensor([2 * torch.pi + 0.1, -0.1, 3.0])
    assert vision_train._apart(turned).tolist() == pytest.approx([0.1, 0.1, 3.0], abs=1e-5)


def test_the_table_by_hand() -> None:
    rows = [{"reward": "true", "before": "0.1", "upright": u} for u in ("0.5", "0.7", "0.9")]
    lines = vision_train.table([*rows, {"reward": "alpha 1", "before": "0.2", "upright": "0.3"}]).splitlines()
    assert lines[2] == "| true | 3 | 0.100 | 0.700 | 0.500 to 0.900 |"
    assert lines[3] == "| alpha 1 | 1 | 0.200 | 0.300 | 0.300 to 0.300 |"
