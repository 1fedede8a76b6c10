"""Self-play with a league: whom it plays, actors evaluated together, counts, files, and no running in circles."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.agents import League
from cairn.agents.multi.league import OPPONENTS, Rival, against, play_out
from cairn.agents.multi.payoffs import elo, pfsp
from cairn.agents.training import ConfigError, TrainConfig, evaluate, resume, train
from cairn.envs.multi.matrix_game import ROCK_PAPER_SCISSORS
from cairn.runs import Run

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, "seed": 0}


def game(name: str = "Soccer", n: int = 8, **kwargs: Any) -> Any:
    return gym.make_vec(f"cairn/{name}-v0", num_envs=n, device="cpu", **kwargs)


def test_who_is_played_by_hand() -> None:
    p = torch.tensor([0.5, 0.9, 1.0])
    torch.testing.assert_close(pfsp(p, "hard", 2.0), torch.tensor([0.25, 0.01, 0.0]) / 0.26)
    torch.testing.assert_close(pfsp(p, "hard", 0.0), torch.full((3,), 1 / 3))
    torch.testing.assert_close(pfsp(p, "variance"), torch.tensor([0.25, 0.09, 0.0]) / 0.34)
    torch.testing.assert_close(pfsp(torch.ones(4)), torch.full((4,), 0.25))
    for bad in ({"sampling": "soft"}, {"power": -1.0}):
        with pytest.raises(ValueError, match="one of hard, variance"):
            pfsp(p, **bad)  # type: ignore[arg-type]


def test_ratings_by_hand() -> None:
    score = torch.tensor([[0.5, 10 / 11], [1 / 11, 0.5]])
    many = elo(score, 1e9)
    assert float(many[0] - many[1]) == pytest.approx(400, abs=1e-3) and float(many.sum()) == pytest.approx(0, abs=1e-6)
    # Ten games of ten won, and the one that is given as drawn: 10.5 of 11, odds of 21 to 1.
    won = elo(torch.tensor([[0.5, 1.0], [0.0, 0.5]]), 10.0)
    assert float(won[0] - won[1]) == pytest.approx(400 * float(torch.log10(torch.tensor(21.0))), abs=1e-3)
    rock = torch.tensor([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]])
    assert elo(rock, 5.0).abs().max() < 1e-9
    # Odds of 4 to 1 and of 2 to 1 make 8 to 1.
    chain = torch.tensor([[0.5, 0.8, 8 / 9], [0.2, 0.5, 2 / 3], [1 / 9, 1 / 3, 0.5]])
    strength = 10 ** (elo(chain, 1e9) / 400)
    torch.testing.assert_close(strength / strength[2], torch.tensor([8.0, 2.0, 1.0]).double(), rtol=1e-4, atol=0)


def scatter_pool(model: Any) -> None:
    """Fill the pool with different actors."""
    for k in range(1, model.pool.size):
        for p in model.policy.parameters():
            p.data += 0.3 * torch.randn_like(p)
        model.pool.snapshot(k)
    model.pool.refresh()


@pytest.mark.parametrize("name", ["Soccer", "Chase"])
def test_actors_together_are_actors_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    model = League("MlpPolicy", game(name), pool_size=4, **SMALL)
    if name == "Chase":  # a Box
        model.policy.log_std.data += 0.5
    scatter_pool(model)
    assert model.pool.taken == 4 and model.pool.born.tolist() == [-1, 0, 1, 2, 3]
    obs = torch.randn(75, *(model.observation_space.shape or ()))
    who = torch.tensor([0] * 40 + [3] * 33 + [1, 4])[torch.randperm(75)]
    got = model.pool.outputs(obs, who)
    for k in who.unique().tolist():
        for name_, p in model.pool._own().items():
            p.copy_(model.pool.past[name_][k])  # the policy is that actor
        with torch.no_grad():
            torch.testing.assert_close(got[who == k], model.pool.actor(obs[who == k]))
        if model.pool.discrete:
            dist = model.policy.get_distribution(obs[who == k]).distribution
            torch.testing.assert_close(got[who == k].log_softmax(-1), dist.logits)
    one = model.pool.outputs(obs[:1], who[:1])
    torch.testing.assert_close(one, got[:1])
    assert model.action_space.contains(model.pool.act(obs, who)[0].numpy())


def test_means_and_spread_of_a_box_s_draws() -> None:
    torch.manual_seed(0)
    model = League("MlpPolicy", game("Chase"), pool_size=2, **SMALL)
    model.policy.log_std.data.fill_(-3.0)
    model.pool.snapshot(1)
    model.policy.log_std.data.fill_(-1.5)
    model.pool.refresh()
    obs = torch.zeros(8000, *(model.observation_space.shape or ()))
    who = torch.arange(8000) % 2 * 2
    drawn, mean = model.pool.act(obs, who), model.pool.outputs(obs, who)
    for k, spread in ((0, -1.5), (2, -3.0)):
        rows = drawn[who == k] - mean[who == k]
        assert float(rows.std()) == pytest.approx(float(torch.tensor(spread).exp()), rel=0.05)


def test_the_pool_is_a_uniform_draw_of_the_past() -> None:
    torch.manual_seed(0)
    model = League("MlpPolicy", game("RockPaperScissors"), pool_size=8, **SMALL)
    born = []
    for _ in range(60):
        model.pool.taken = 0
        for step in range(40):
            model.pool.snapshot(step)
        born.append(model.pool.born[1:].clone())
    kept = torch.stack(born).flatten().float()
    assert float(kept.mean()) == pytest.approx(19.5, abs=4 * 11.5 / len(kept) ** 0.5)
    assert len(kept.unique()) == 40


def test_games_are_counted_and_forgotten() -> None:
    model = League("MlpPolicy", game("RockPaperScissors"), pool_size=3, self_share=0.25, **SMALL)
    scatter_pool(model)
    pool = model.pool
    who, ended = torch.tensor([1, 1, 2, 3, 0]), torch.tensor([True, True, True, False, True])
    pool.note(who, ended, torch.tensor([1.0, 1.0, 0.0, 1.0, 0.5]))
    torch.testing.assert_close(pool.win_rate, torch.tensor([1 / 2, 2.5 / 3, 0.5 / 2, 0.5]))
    share = torch.tensor([(0.5 / 3) ** 2, 0.75**2, 0.25])
    torch.testing.assert_close(pool.weights(), torch.cat([torch.tensor([0.25]), 0.75 * share / share.sum()]))
    drawn = pool.draw(20_000)
    torch.testing.assert_close(drawn.bincount() / 20_000, pool.weights(), atol=0.015, rtol=0)
    pool.games.fill_(100)
    pool.score.fill_(100)
    while 9 not in pool.born:
        pool.snapshot(9)  # may take a place, whose games are then its own
    for k in range(1, 4):
        assert (pool.games[k] == 0 and pool.score[k] == 0) if pool.born[k] == 9 else pool.score[k] == 100
    games = pool.games.clone()
    model.learn(8 * 16)
    assert pool.games.sum() > games.sum(), "every step is a game"
    assert (pool.score <= pool.games + 1e-3).all()
    # All old games were forgotten once, and the new ones with them.
    assert float(pool.games.sum()) == pytest.approx(0.99 * (float(games.sum()) + 8 * 16), rel=1e-5)


def test_a_tournament_of_known_players() -> None:
    model = League("MlpPolicy", game("RockPaperScissors"), pool_size=3, policy_kwargs={"net_arch": []}, **SMALL)
    model.pool.taken = 0
    for k in (0, 1, 2, 0):  # rock, paper, scissors, and the learner plays rock
        model.policy.action_net.bias.data = torch.eye(3)[k] * 50
        if model.pool.taken < 3:
            model.pool.snapshot(100 * k)
    before = torch.random.get_rng_state()
    result = model.tournament("cairn/RockPaperScissors-v0", episodes=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert result.score.tolist() == [[0.5, 0, 1, 0.5], [1, 0.5, 0, 1], [0, 1, 0.5, 0], [0.5, 0, 1, 0.5]]
    assert result.born.tolist() == [0, 100, 200, -1]
    # Paper has beaten two and lost to one.
    assert result.elo.argmax() == 1 and float(result.elo[0]) == pytest.approx(float(result.elo[3]))
    total = play_out(model.pool, game("RockPaperScissors", 2), torch.tensor([[1, 2], [2, 1]]), False, 0)
    assert total.tolist() == [[-1, 1], [1, -1]]


def test_opponents_by_name() -> None:
    """Now it plays paper. Of its past selves rock loses, paper draws and scissors win, and chance draws on average."""
    model = League("MlpPolicy", game("RockPaperScissors"), pool_size=3, policy_kwargs={"net_arch": []}, **SMALL)
    model.policy.action_net.weight.data.zero_()

    def play(hand: int) -> None:
        model.policy.action_net.bias.data = 50.0 * torch.nn.functional.one_hot(torch.tensor(hand), 3).float()

    model.pool.taken = 0
    for hand in range(3):
        play(hand)
        model.pool.snapshot(hand)
    play(1)
    model.pool.games[1:], model.pool.score[1:] = 10, torch.tensor([10.0, 5, 0])
    found = {k: against(model, Rival(model, k), game("RockPaperScissors", 300), 300, 0, True) for k in OPPONENTS}
    assert found["itself"].score == 0.5 and found["hardest"].score == 0 and found["hardest"].return_mean == -1
    for kind in ("past", "random"):
        score = found[kind].score
        assert score is not None and 0.4 < score < 0.6 and found[kind].opponent == kind
        assert found[kind].return_mean == pytest.approx(2 * score - 1), "the return is the player's own"
    other = League("MlpPolicy", game("RockPaperScissors"), pool_size=3, policy_kwargs={"net_arch": []}, **SMALL)
    other.policy.load_state_dict(model.policy.state_dict())
    play(2)
    assert against(model, Rival(other, "itself"), game("RockPaperScissors", 10), 10, 0, False).score == 1
    with pytest.raises(ValueError, match="one of itself, past, hardest, random, or the folder"):
        Rival(model, "me")


def test_a_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    args = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, "snapshot_every": 200, "pool_size": 3}
    base: dict[str, Any] = {"env": "cairn/Soccer-v0", "agent": "league", "num_envs": 4, "agent_args": args}
    train(TrainConfig(**base, steps=1280, run=str(tmp_path / "a")))
    train(TrainConfig(**base, steps=640, run=str(tmp_path / "b")))
    resume(tmp_path / "b", steps=1280)
    a, b = (Run.open(tmp_path / k).latest()[2]["model"] for k in "ab")  # type: ignore[index]
    assert a["pool"]["taken"] == b["pool"]["taken"] == 7  # at 0, 256, 448, 640, 832, 1024, 1216
    for name in ("games", "score", "born"):
        assert torch.equal(a["pool"][name], b["pool"][name])
    for name, value in a["policy"].items():
        assert torch.equal(value, b["policy"][name])
    result = evaluate(tmp_path / "a", 5)
    assert result == evaluate(tmp_path / "b", 5) and str(result).endswith("against itself") and result.agents
    for opponent in ("past", "random", str(tmp_path / "b")):
        result = evaluate(tmp_path / "a", 5, opponent=opponent)
        assert result.opponent == opponent and f"against {opponent}: score" in str(result) and result.agents is None
    with pytest.raises(ConfigError, match="one of itself"):
        evaluate(tmp_path / "a", 5, opponent="nobody")
    train(TrainConfig(env="cairn/Chase-v0", agent="ippo", steps=64, num_envs=1, run=str(tmp_path / "c")))
    with pytest.raises(ConfigError, match="games of two that a league has learned, not IPPO"):
        evaluate(tmp_path / "c", 5, opponent="random")
    with pytest.raises(ConfigError, match="no league of the same game: it is ippo"):
        evaluate(tmp_path / "a", 5, opponent=str(tmp_path / "c"))


def test_files_and_predictions(tmp_path: Path) -> None:
    model = League("MlpPolicy", game(), pool_size=3, snapshot_every=100, **SMALL).learn(512)
    assert model.pool.taken == 4  # before the first rollout and the three others
    head = model.pool.past["head.bias"]
    assert len(head[1:].unique(dim=0)) == 3, "three past selves"
    assert not torch.equal(head[0], model.policy.action_net.bias), "number 0 is as the last rollout began"
    score = model.tournament("cairn/Soccer-v0", 3).score
    torch.testing.assert_close(score + score.t(), torch.ones(4, 4).double())
    model.save(tmp_path / "m")
    again = League.load(tmp_path / "m", env=game(n=4))
    assert again.pool.taken == model.pool.taken and torch.equal(again.pool.born, model.pool.born)
    x = torch.randn(6, 41)
    who = torch.tensor([0, 1, 2, 3, 1, 2])
    assert torch.equal(again.pool.outputs(x, who), model.pool.outputs(x, who))
    again.learn(128)
    obs, _ = game(n=3).reset(seed=1)
    a, _ = model.predict(obs, deterministic=True)
    b, _ = League.load(tmp_path / "m").predict(obs, deterministic=True)
    assert torch.equal(a, b) and tuple(a.shape) == (3, 2)
    with pytest.raises(ValueError, match="3 places"):
        League("MlpPolicy", game(), pool_size=2, **SMALL).pool.load(model.pool.state())


def late(share: float) -> tuple[float, float]:
    """How much the policies of the last quarter of a run can be beaten by, and their average over the pool."""
    model = League(
        "MlpPolicy", game("RockPaperScissors", 64), seed=0, self_share=share, snapshot_every=1024, pool_size=64,
        n_steps=16, batch_size=512, n_epochs=4, learning_rate=3e-3, ent_coef=0.1, decay=0.9,
    )  # fmt: skip
    payoff, seen = torch.tensor(ROCK_PAPER_SCISSORS), []
    for part in range(32):
        model.learn(1024, reset_num_timesteps=part == 0)
        seen.append(
            float((payoff @ model.policy.get_distribution(torch.ones(1, 1)).distribution.probs[0].detach()).max())
        )
    past = torch.arange(1, min(model.pool.taken, 64) + 1)
    mixed = model.pool.outputs(torch.ones(len(past), 1), past).softmax(-1).mean(0)
    return sum(seen[-8:]) / 8, float((payoff @ mixed).max())


def test_a_league_does_not_run_in_circles() -> None:
    alone, league = late(1.0), late(0.35)
    assert alone[0] > 0.45, "self-play is beaten by what beats its last strategy"
    assert league[0] < 0.3 and league[1] < 0.1, league


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3"):
        League("MlpPolicy", game("Spread"))
    with pytest.raises(TypeError, match="agent axis"):
        League("MlpPolicy", "CartPole-v1")
    for bad in ({"self_share": 1.5}, {"pool_size": 0}, {"decay": 0.0}, {"snapshot_every": 0}, {"sampling": "soft"}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
            League("MlpPolicy", game(), **SMALL, **bad)  # type: ignore[arg-type]
