"""What a frozen agent is told to be worth: first episodes, fresh levels, honest intervals, no trace."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from cairn.agents.evaluation import LONGEST, evaluate_batch, fresh_seed, own_randomness, wilson
from cairn.envs.batch import BatchEnv, lane_seed


class Corridor(BatchEnv):
    """Lane i's episodes last ``lengths[i]`` steps and pay 1 on the last; the first of each odd lane fails."""

    def __init__(self, lengths: list[int], knows: bool = True, max_steps: int | None = None) -> None:
        box = spaces.Box(0, np.inf, (1,), np.float32)
        super().__init__(len(lengths), box, spaces.Discrete(2), max_steps=max_steps)
        self.lengths, self.knows, self.seeds = torch.tensor(lengths), knows, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Tensor, dict[str, Any]]:
        self.seeds.append(seed)
        self.t = torch.zeros(self.num_envs, dtype=torch.int64)
        self.wins = torch.arange(self.num_envs) % 2 == 0
        return self.t[:, None].float(), {"facts": {}}

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        assert actions.shape == (self.num_envs,)
        self.t += 1
        ended = self.t >= self.lengths
        self.t[ended] = 0
        facts = {"success": ended & self.wins} if self.knows else {}
        won = ended & self.wins
        info = {"facts": {}, "final_facts": facts, "_final_obs": ended}
        obs = self.t[:, None].float()
        self.wins = self.wins | ended
        return obs, won.float(), won, ended & ~won, info


def still(obs: Tensor) -> Tensor:
    return torch.zeros(len(obs), dtype=torch.int64)


def test_each_lane_counts_once() -> None:
    # While lane 3 plays its 50 steps, lanes 0 to 2 win 38 more episodes, which must not count.
    result = evaluate_batch(still, Corridor([2, 5, 10, 50]), 4, seed=0)
    assert (result.successes, result.success, result.episodes) == (2, 0.5, 4)
    assert result.return_mean == 0.5
    assert result.length_mean == (2 + 5 + 10 + 50) / 4
    assert result.length_median == 7.5


def test_a_narrow_evaluation_asks_for_the_open_lanes_alone_and_finds_the_same() -> None:
    asked: list[int] = []
    acted: list[list[int]] = []

    class Heard(Corridor):
        def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
            acted.append(actions.tolist())
            return super().step(actions)

    def at(obs: Tensor) -> Tensor:  # the clock of the lane, so that a lane in another's place would show
        asked.append(len(obs))
        return (10 * obs[:, 0]).long()

    lengths = [2, 5, 5, 4, 5, 9, 2, 3, 7]
    whole = evaluate_batch(at, Heard(lengths), 9, seed=0)
    seen, asked, acted = acted, [], []
    assert evaluate_batch(at, Heard(lengths), 9, seed=0, narrow=True) == whole
    assert asked == [9, 9, 9, 9, 9, 2, 2, 1, 1] and acted[:5] == seen[:5]
    assert [row[5] for row in acted] == [row[5] for row in seen] and acted[7] == [0, 0, 0, 0, 0, 70, 0, 0, 0]


def test_a_policy_that_remembers_is_not_asked_narrowly() -> None:
    class Remembers:
        def reset(self) -> None: ...
        def __call__(self, obs: Tensor) -> Tensor:
            return still(obs)

    with pytest.raises(ValueError, match="has a memory for each"):
        evaluate_batch(Remembers(), Corridor([1]), 1, seed=0, narrow=True)


def test_rounds_have_other_levels_and_surplus_lanes_do_not_count() -> None:
    env = Corridor([1, 2, 3])
    result = evaluate_batch(still, env, 4, seed=0)
    assert len(set(env.seeds)) == len(env.seeds) == 2
    assert result.episodes == 4
    assert result.successes == 3  # lanes 0 and 2, then lane 0 again
    assert result.length_mean == (1 + 2 + 3 + 1) / 4


def test_unknown_success_is_none() -> None:
    result = evaluate_batch(still, Corridor([1, 2], knows=False), 2, seed=0)
    assert result.success is None and result.success_low is None
    assert "success" not in str(result) and "eval/success" not in result.row()


def test_an_episode_without_end_is_given_up_as_a_failure() -> None:
    result = evaluate_batch(still, Corridor([3, 10**9, 2], max_steps=20), 3, seed=0)
    assert result.successes == 2
    assert result.length_mean == (3 + 20 + 2) / 3
    assert LONGEST >= 1000


def test_wilson_against_published_values() -> None:
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    for wins, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                    (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson(wins, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_fresh_seeds_share_no_level_with_training() -> None:
    seeds = [fresh_seed(s, what, k) for s in range(10) for what in ("trial", "play") for k in range(10)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert fresh_seed(0, "eval") == fresh_seed(0, "eval")
    trained = {lane_seed(s, lane) for s in range(20) for lane in range(50)}
    assert not trained & {lane_seed(seed, lane) for seed in seeds for lane in range(50)}


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_an_evaluation_leaves_the_random_streams_as_they_were() -> None:
    def dice(obs: Tensor) -> Tensor:
        random.random(), np.random.rand()
        return torch.randint(0, 2, (len(obs),))

    before = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    evaluate_batch(dice, Corridor([4, 2]), 2, seed=7)
    assert draws() == expected != before


def test_own_randomness_repeats_itself_and_survives_an_error() -> None:
    with own_randomness(5):
        first = draws()
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), own_randomness(5):
        assert draws() == first
        raise ZeroDivisionError
    assert torch.equal(state, torch.get_rng_state())


def test_no_episodes_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evaluate_batch(still, Corridor([1]), 0, seed=0)
