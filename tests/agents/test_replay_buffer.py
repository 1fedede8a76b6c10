"""The replay buffer in tensors: every kept transition is the lived one, and its reward is that of now."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from cairn.agents.replay import ReplayBuffer, rows
from cairn.envs.spaces import Symbols, tree_leaves, tree_map
from cairn.runs import first_difference
from cairn.shaping import EpisodicCount, Gated, Potential, RolloutSeat, Stretch, Task, World, as_reward, linear
from cairn.shaping.laws import walk
from cairn.shaping.replay_seat import ReplaySeat
from cairn.shaping.reward import RewardError
from cairn.shaping.term import Pure, Source

CPU = torch.device("cpu")


def made(world: World, size: int, reward: Any = None, **kwargs: Any) -> ReplayBuffer:
    seat = None if reward is None else ReplaySeat(reward, world, rows(size, world.lanes))
    return ReplayBuffer(world.observation_space, world.action_space, size, world.lanes, CPU, seat=seat, **kwargs)


def live(buffer: ReplayBuffer, x: Stretch, first: int = 0, until: int | None = None) -> list[Any]:
    """Give the buffer steps of ``x [T, N]`` as a batch does; what it says of ends."""
    last, said = x.rows[0] - 1, []
    if first == 0:
        buffer.begin(tree_map(lambda v: v[0], x.obs), {"facts": tree_map(lambda v: v[0], x.facts)})
    for t in range(first, x.rows[0] if until is None else until):
        assert isinstance(x.action, Tensor)
        buffer.act(x.action[t][:, None])
        now = tree_map(lambda v: v[t + 1], {"o": x.obs, "f": x.facts}) if t < last else None  # noqa: B023
        after = tree_map(lambda v: v[t], {"o": x.next_obs, "f": x.next_facts})  # noqa: B023
        now = now or after
        info = {"final_obs": after["o"], "_final_obs": x.done[t], "facts": now["f"], "final_facts": after["f"]}
        said.append(buffer.add(now["o"], x.reward[t], x.terminated[t], x.truncated[t], info))
    return said


def every(buffer: ReplayBuffer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sample each kept transition once, the oldest step first."""
    count = buffer.count()
    monkeypatch.setattr(buffer, "draw", lambda n: buffer._locate(torch.arange(count)))
    return buffer.sample(count)


def flat(tree: Any, first: int) -> Any:
    return tree_map(lambda v: v[first:].flatten(0, 1), tree)


def expression() -> Any:
    return (
        Task() + Potential("distance") + EpisodicCount(key="position") * Task() + 0.1 * EpisodicCount(mode="first")
        + Gated(EpisodicCount(), 0.5) * 0.5 + Gated(Task() + 0.1, 1.0, pay="end")
    )  # fmt: skip


@pytest.mark.parametrize("dict_obs", [False, True])
@pytest.mark.parametrize("steps", [24, 9, 1])
def test_kept_transitions_are_the_lived_ones(steps: int, dict_obs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(3, dict_obs=dict_obs)
    buffer = made(world, steps * world.lanes)
    said = live(buffer, x)
    batch, first = every(buffer, monkeypatch), x.rows[0] - steps
    assert buffer.count() == steps * world.lanes
    for got, expected in ((batch.observations, x.obs), (batch.next_observations, x.next_obs)):
        same = tree_map(torch.equal, got, flat(expected, first))
        assert all(tree_leaves(same)), same
    assert torch.equal(batch.actions, flat(x.action, first)[:, None])
    assert torch.equal(batch.rewards[:, 0], flat(x.reward, first))
    assert torch.equal(batch.dones[:, 0].bool(), flat(x.terminated, first)) and bool(x.truncated[first:].any()) | (
        steps == 1
    )
    if dict_obs:
        assert batch.observations["image"].dtype == torch.uint8
    ends = [(t, int(n)) for t in range(24) for n in x.done[t].nonzero()[:, 0]]
    assert [(t, n) for t, e in enumerate(said) if e is not None for n in e.lane.tolist()] == ends
    returns = {}
    for t in range(24):
        for n in range(world.lanes):
            k = (n, int(x.episode[t, n]))
            returns[k] = returns.get(k, 0.0) + float(x.reward[t, n])
    got_returns = [r for e in said if e is not None for r in e.total]
    assert got_returns == pytest.approx([returns[n, int(x.episode[t, n])] for t, n in ends])
    assert [n for e in said if e is not None for n in e.length] == [int(x.t[t, n]) + 1 for t, n in ends]


def test_observations_are_kept_once() -> None:
    """One row of 84 x 84 pictures more than the transitions, and the last ones of episodes."""
    space = spaces.Box(0, 255, (84, 84, 1), np.uint8)
    buffer = ReplayBuffer(space, spaces.Discrete(2), 100 * 4, 4, CPU)
    picture = torch.zeros(4, 84, 84, 1, dtype=torch.uint8)
    buffer.begin(picture, {})
    done = torch.zeros(4, dtype=torch.bool)
    for t in range(250):
        buffer.act(torch.zeros(4, 1, dtype=torch.int64))
        ends = done if t % 50 else ~done
        buffer.add(picture, torch.zeros(4), ends, done, {"final_obs": picture, "_final_obs": ends})
    assert buffer.count() == 400 and buffer.nbytes < 1.3 * 400 * 84 * 84


def test_a_reset_from_outside_keeps_the_last_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(0, dict_obs=False)
    buffer = made(world, 1000)
    live(buffer, x, until=10)
    live(buffer, x)
    batch = every(buffer, monkeypatch)
    both = torch.cat([x.next_obs[:10].flatten(0, 1), x.next_obs.flatten(0, 1)])  # type: ignore[index, union-attr]
    assert torch.equal(batch.next_observations, both)
    several = made(world, 1000, n_steps=4, gamma=0.5)
    live(several, x, until=10)
    live(several, x)
    got = every(several, monkeypatch).rewards[:, 0].reshape(34, -1)
    expected = torch.cat([plain_returns(x[:10], 4, 0.5)[0], plain_returns(x, 4, 0.5)[0]])
    assert torch.allclose(got, expected)


def plain_returns(x: Stretch, n: int, gamma: float, reward: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns of ``n`` steps, discounts and last steps ``[T, N]``, in plain loops."""
    reward = x.reward if reward is None else reward
    steps, lanes = x.rows
    total, last = torch.zeros(steps, lanes), torch.zeros(steps, lanes, dtype=torch.int64)
    for t in range(steps):
        for lane in range(lanes):
            for k in range(n):
                total[t, lane] += gamma**k * reward[t + k, lane]
                last[t, lane] = t + k
                if x.done[t + k, lane] or t + k == steps - 1:
                    break
    return total, gamma ** (last - torch.arange(steps)[:, None] + 1).float(), last


@pytest.mark.parametrize("reward", [None, "2*task + episodic_count"])
@pytest.mark.parametrize("kept", [24, 10])
def test_returns_of_several_steps(kept: int, reward: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(5, dict_obs=False)
    buffer = made(world, kept * world.lanes, reward, n_steps=3, gamma=0.8)
    live(buffer, x)
    paid = None if reward is None else RolloutSeat(as_reward(reward), walk(5, dict_obs=False)[0])(x, 0)[0][..., 0]
    total, discount, last = (part[24 - kept :] for part in plain_returns(x, 3, 0.8, paid))
    batch = every(buffer, monkeypatch)
    assert torch.allclose(batch.rewards[:, 0].reshape(kept, -1), total, atol=1e-6)
    assert torch.allclose(batch.discounts[:, 0].reshape(kept, -1), discount)
    assert isinstance(x.next_obs, Tensor)
    lanes = torch.arange(world.lanes)
    assert torch.equal(batch.next_observations.reshape(kept, -1, 3), x.next_obs[last, lanes])
    assert torch.equal(batch.dones.bool().reshape(kept, -1), x.terminated[last, lanes])


# ---- rewards -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [24, 10])
@pytest.mark.parametrize("seed", range(3))
def test_it_pays_what_a_rollout_pays(seed: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(seed)
    expected = RolloutSeat(as_reward(expression()), world)(x, 0)[0][..., 0]
    buffer = made(world, kept * world.lanes, expression())
    live(buffer, x)
    assert torch.allclose(every(buffer, monkeypatch).rewards[:, 0], flat(expected, 24 - kept), atol=1e-6)
    shares = buffer.report(0)
    assert float(sum(shares.values())) == pytest.approx(float(expected.mean()), abs=1e-6)
    assert buffer.report(0) == {}


def test_terms_see_what_they_would_see_in_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(2)
    lived, sampled = [], []

    def look(seen: Stretch) -> Tensor:
        (lived if seen.rows[0] == 1 else sampled).append(seen)
        return seen.reward

    buffer = made(world, 1000, look)
    live(buffer, x)
    every(buffer, monkeypatch)
    for got in (Stretch.cat(lived), sampled[0].map(lambda v: v.reshape(24, -1, *v.shape[1:]))):
        tree, wanted = got.to_tree(), x.to_tree()
        del tree["extra"], wanted["extra"]
        assert first_difference(tree, wanted) is None


class Novelty(Pure):
    """Falls at every update, as prediction errors do."""

    saved = ("left",)

    def __init__(self) -> None:
        self.left = torch.ones(())

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward * 0 + self.left

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        drawn = source.sample(50)
        assert drawn.rows == (50,) and bool((drawn.t <= 24).all())
        self.left = self.left * 0.5
        return {"left": self.left}


def test_a_term_that_learned_meanwhile_is_scored_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was worth when it was lived is forgotten; a stream's value, which only that moment knew, is not."""
    world, x = walk(0, dict_obs=False)
    buffer = made(world, 1000, Novelty() * EpisodicCount(mode="first") + Novelty())
    first = RolloutSeat(as_reward(EpisodicCount(mode="first")), world)(x, 0)[0].flatten()
    live(buffer, x)
    assert buffer.seat is not None
    for updates in range(4):
        got = every(buffer, monkeypatch).rewards[:, 0]
        assert torch.allclose(got, 0.5**updates * (first + 1)), updates
        buffer.seat.source.pieces = buffer.seat.source.pieces or [x]  # type: ignore[union-attr]
        assert buffer.seat.update(0)["reward/novelty/left"] == 0.5 ** (updates + 1)
    assert len(buffer.seat.stored) == 1


def test_schedules_weigh_at_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(0, dict_obs=False)
    buffer = made(world, 1000, linear(1.0, 0.0, 240) * Task())
    live(buffer, x)
    assert torch.allclose(every(buffer, monkeypatch).rewards[:, 0], x.reward.flatten() * 0.5)


def test_a_reward_that_is_no_number_is_refused_when_lived_and_when_sampled() -> None:
    world, x = walk(0, dict_obs=False)
    with pytest.raises(RewardError, match="environment 0, episode 0, step 0"):
        live(made(world, 100, lambda x: x.reward / 0 - torch.inf), x)
    good = [True]
    buffer = made(world, 100, lambda x: x.reward if good[0] else x.reward / 0 - torch.inf)
    live(buffer, x)
    good[0] = False
    with pytest.raises(RewardError, match="nothing was trained"):
        buffer.sample(8)


# ---- drawing -----------------------------------------------------------------------------------------------


def test_draws_are_even_and_their_own() -> None:
    world, x = walk(0, dict_obs=False)
    buffer = made(world, 10 * world.lanes, seed=4)
    with pytest.raises(RuntimeError, match="empty"):
        buffer.sample(1)
    live(buffer, x)
    before = torch.get_rng_state()
    at, lane = buffer.draw(50_000)
    assert torch.equal(before, torch.get_rng_state())
    hits = torch.zeros(buffer.ring, world.lanes).index_put_((at, lane), torch.ones(50_000), accumulate=True)
    assert hits[buffer.row].sum() == 0  # where the lanes are is no transition yet
    hits = hits[torch.arange(buffer.ring) != buffer.row]
    mean = 50_000 / hits.numel()
    assert bool((abs(hits - mean) < 5 * mean**0.5).all())
    other = made(world, 10 * world.lanes, seed=4)
    live(other, x)
    assert torch.equal(other.draw(50_000)[0], at)


def test_rows_that_are_no_transitions_are_never_drawn() -> None:
    """A foreign vector environment spends a step on each reset."""
    world, x = walk(1, dict_obs=False)
    buffer = made(world, 1000, "task + episodic_count")
    buffer.begin(x.obs[0], {"facts": tree_map(lambda v: v[0], x.facts)})  # type: ignore[index]
    rng, skip = np.random.default_rng(0), torch.zeros(world.lanes, dtype=torch.bool)
    skipped = []
    for _ in range(60):
        ends = torch.as_tensor(rng.random(world.lanes) < 0.3) & ~skip
        buffer.act(torch.zeros(world.lanes, 1, dtype=torch.int64))
        facts = tree_map(lambda v: v[0], x.facts)
        info = {"final_obs": x.obs[0], "_final_obs": ends, "facts": facts, "final_facts": facts, "valid": ~skip}  # type: ignore[index]
        ended = buffer.add(x.obs[0], torch.ones(world.lanes), ends, ends & False, info)  # type: ignore[index]
        if ended is not None:
            assert ended.total == [float(n) for n in ended.length]
        skipped.append(skip)
        skip = ends
    at, lane = buffer.draw(20_000)
    hits = torch.zeros(60, world.lanes).index_put_((at, lane), torch.ones(20_000), accumulate=True)
    gone = torch.stack(skipped)
    assert int(gone.sum()) > 20 and hits[gone].sum() == 0
    mean = 20_000 / int((~gone).sum())
    assert bool((abs(hits[~gone] - mean) < 6 * mean**0.5).all())


def test_many_minibatches_in_one_go_are_the_same_draws() -> None:
    world, x = walk(0)
    one, many = made(world, 1000, expression(), seed=1), made(world, 1000, expression(), seed=1)
    for buffer in (one, many):
        live(buffer, x)
    drawn = list(many.batches(5, 16))
    assert len(drawn) == 5 and all(len(batch.rewards) == 16 for batch in drawn)
    state = one.generator.get_state()
    again = one.sample(80)
    assert torch.equal(torch.cat([batch.rewards for batch in drawn]), again.rewards)
    assert not torch.equal(state, one.generator.get_state())


def test_a_buffer_beyond_the_memory_is_refused_before_it_is_taken() -> None:
    space = spaces.Dict({"image": Symbols((64, 64, 3), (11, 6, 4))})
    with pytest.raises(ValueError, match=r"GiB.*smaller buffer_size"):
        ReplayBuffer(space, spaces.Discrete(2), 10**12, 1, CPU)


# ---- state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dict_obs", [False, True])
@pytest.mark.parametrize("size", [1000, 40, 25])
@pytest.mark.parametrize("cut", [0, 3, 11, 20])
def test_it_resumes_in_mid_episode_bit_for_bit(cut: int, size: int, dict_obs: bool) -> None:
    world, x = walk(2, dict_obs=dict_obs)
    whole, half, other = (made(walk(2, dict_obs=dict_obs)[0], size, expression(), seed=9) for _ in range(3))
    live(whole, x)
    if cut:
        live(half, x, until=cut)
        half.sample(5)
        whole.draw(5)
    else:
        half.begin(tree_map(lambda v: v[0], x.obs), {"facts": tree_map(lambda v: v[0], x.facts)})
    other.load(half.state())
    live(other, x, first=cut or 0) if cut else live(other, x)
    assert first_difference(other.state(), whole.state()) is None
    a, b = other.sample(64), whole.sample(64)
    assert torch.equal(a.rewards, b.rewards)
    assert all(tree_leaves(tree_map(torch.equal, a.next_observations, b.next_observations)))


def test_a_state_that_does_not_fit_is_refused() -> None:
    world, x = walk(2, dict_obs=False)
    buffer = made(world, 1000)
    live(buffer, x)
    state = buffer.state()
    for wrong in (made(world, 20), made(walk(2)[0], 1000), made(walk(2, dict_obs=False)[0], 1000, "task")):
        with pytest.raises(ValueError, match="build the model with the same"):
            wrong.load(state)


@pytest.mark.parametrize("damage", ["one too many", "twice the same", "beyond the end"])
def test_a_state_whose_last_observations_are_not_those_of_its_episodes_is_refused(damage: str) -> None:
    world, x = walk(2, dict_obs=False)
    buffer = made(world, 1000)
    live(buffer, x)
    state = buffer.state()
    place = state["lived"]["final"]
    first, second = (place >= 0).nonzero()[:2].tolist()
    if damage == "one too many":
        state["pool"] = tree_map(lambda v: torch.cat([v, v[:1]]), state["pool"])
    else:
        place[tuple(first)] = place[tuple(second)] if damage == "twice the same" else 1000
    with pytest.raises(ValueError, match="damaged"):
        made(world, 1000).load(state)
