"""Ways covered at equal return: the measures by hand, the choice of settings, and a small run."""

import math

import pytest
import torch

from cairn.benchmarks import imitation_modes as modes
from cairn.envs.tabular import TabularBatch


def test_the_effective_number_of_ways():
    ways = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.3, 0.0, 0.0, 0.0], [0.4, 0.2, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]])
    # 1/2, 1/4, 1/4: an entropy of 1.5 bits
    assert modes.effective(ways.double()).tolist() == pytest.approx([4.0, 1.0, 2**1.5, 0.0])


@pytest.mark.parametrize(
    ("level", "coverage"),
    [(0.95, 0.0), (0.9, 2.0), (0.85, 3.0), (0.8, 4.0), (0.7, 4.0), (0.6, 5.0), (0.4, 7.0), (0.1, 7.0)],
)
def test_coverage_between_temperatures_is_linear_and_the_best_from_there_up(level, coverage):
    returns, covered = [0.9, 0.8, 0.7, 0.5], [2.0, 4.0, 3.0, 7.0]
    assert modes.coverage_at(returns, covered, level) == pytest.approx(coverage)


def test_each_way_fails_only_in_its_two_gates():
    """A gate is left with 0.9; beside it are pits. The walk to it keeps away from them."""
    ways = modes.ways_taken(modes.scene(), modes.known_ways())
    assert torch.allclose(ways, 0.81 * torch.eye(9, dtype=torch.float64), atol=1e-6)
    assert modes.succeeds("even").tolist() == pytest.approx([0.09] * 9, abs=1e-6)
    forgetful = modes.cloned("even")  # fewest go from one corner to the other
    assert float(forgetful.sum()) == pytest.approx(0.81, abs=1e-5) and forgetful.argmin() in (2, 6)
    assert torch.allclose(forgetful, forgetful.flip(0), atol=1e-9)  # the world is the same upside down
    skewed = modes.effective(modes.succeeds("skewed")[None]).item()
    entropy = -sum(p * math.log(p) for p in (0.2, 0.7, 0.1))  # of a wall's gates; the walls are independent
    assert skewed == pytest.approx(math.exp(2 * entropy), abs=1e-4)


def test_exact_ways_are_those_of_played_episodes():
    generator = torch.Generator().manual_seed(0)
    world, lanes = modes.scene(), 4000
    policy = 0.9 * modes.known_ways().mean(0) + 0.1 / 4
    exact = modes.ways_taken(world, policy[None])[0]
    env = TabularBatch(world, lanes)
    assert world.labels is not None
    gates = torch.stack([world.labels[:, world.propositions.index(g)] for g in "abcdef"], -1)
    state, _ = env.reset(seed=0)
    last, live, won = torch.zeros(2, lanes, dtype=torch.int64), torch.ones(lanes, dtype=torch.bool), torch.zeros(9)
    while bool(live.any()):
        action = torch.multinomial(policy[state], 1, generator=generator)[:, 0]
        state, reward, terminated, truncated, info = env.step(action)
        for wall in (0, 1):
            inside = gates[info["final_obs"], 3 * wall : 3 * wall + 3] & live[:, None]
            last[wall] = torch.where(inside.any(-1), inside.int().argmax(-1), last[wall])
        ended = live & (terminated | truncated)
        won.index_add_(0, (3 * last[0] + last[1])[ended], reward[ended])
        live &= ~ended
    assert torch.allclose(won.double() / lanes, exact, atol=0.02) and 0.1 < float(exact.sum()) < 0.7


def test_demonstrations_are_successes_and_the_rows_of_one_world():
    demos = modes.show("even", 5, 0)
    assert demos.episodes == 5 and demos.returns.tolist() == [1.0] * 5 and bool(demos.terminated.any())
    assert demos.states.shape[1] == 9 + 11 and torch.equal(demos.states.sum(-1), torch.full((len(demos) + 5,), 2.0))
    assert not torch.equal(demos.action, modes.show("even", 5, 1).action[: len(demos)])


def row(setting, stop, seed, covered, shown=20):
    """All of the coverage at 0.9 of the return, an eighth at 0.97, none above."""
    return {"demonstrator": "even", "shown": str(shown), "seed": str(seed), "setting": setting, "stop": stop,
            "returns": "0.9 0.97", "covered": f"{covered} {covered / 8}", "apart": "0 0"}  # fmt: skip


def test_settings_are_chosen_on_the_tuning_seeds_alone():
    rows = [row("mle", "end", 1000, 3), row("mle", "held out", 1000, 4), row("mle", "end", 0, 9),
            row("mle, decay 0.01", "end", 0, 9), row("mle", "end", 1000, 9, shown=100)]  # fmt: skip
    assert modes.chosen(rows, "even", "mle", 0.9) == ("mle", "held out")
    rows += [row("iq, weight 1", "end", 1000, 5), row("mle", "held out", 0, 4), row("iq, weight 1", "end", 0, 6)]
    rows += [row("mle", "held out", 1, 4), row("iq, weight 1", "end", 1, 6)]
    higher = {**row("mle, entropy 0.1", "end", 1000, 1), "returns": "1.0 1.0"}  # comes higher, covers less
    lines = modes.compared([*rows, higher, {**higher, "seed": "0"}, {**higher, "seed": "1"}]).splitlines()[2:]
    mle, iq, less, both = ([cell.strip() for cell in line.split("|")[3:8]] for line in lines)
    assert mle[:3] == ["MLE", *["4.00 (4.00 to 4.00), 2/2, plain, stopped"] * 2]
    assert mle[4] == "1.00 (1.00 to 1.00), 2/2, entropy 0.1"
    assert iq[1] == "6.00 (6.00 to 6.00), 2/2, weight 1"
    assert less[1] == "+2.00 (+2.00 to +2.00)" and less[4] == "-1.00 (-1.00 to -1.00)"
    assert both[1] == "+2.00 (+2.00 to +2.00), 2/2" and both[4] == ""


def test_a_small_run_is_done_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(modes, "TUNING", (1000,))
    args = ["--seeds", "1", "--demonstrators", "even", "--settings", "mle", "iq, weight 1", "--updates", "50"]
    modes.main([*args, "--out", str(tmp_path)])
    first = (tmp_path / "cells.csv").read_text()
    modes.main([*args, "--out", str(tmp_path)])
    assert (tmp_path / "cells.csv").read_text() == first and len(first.splitlines()) == 1 + 2 * 2 * 2
    modes.main([*args, "--out", str(tmp_path), "--shown", "10"])
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 1 + 2 * 2 * 3
    assert "| even | 10 | difference |" in capsys.readouterr().out
    assert (tmp_path / "frontiers.png").stat().st_size > 5000
    assert "| even | 20 | mle | end | 1 |" in (tmp_path / "table.md").read_text()


def test_too_few_demonstrations_to_hold_one_out_are_refused(capsys):
    with pytest.raises(SystemExit):
        modes.main(["--shown", "4"])
    assert "at least 5" in capsys.readouterr().err
