"""MAMQL: losses by hand, imitation of a scripted pair, rewards recovered, and bad demonstrations."""

import math
from typing import Any

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.multi.mamql import MAMQL, Demonstrations, demonstrate


def gems(n: int = 32, **kwargs: Any) -> Any:
    return gym.make_vec("cairn/Gems-v0", num_envs=n, device="cpu", **kwargs)


def collector(obs: torch.Tensor) -> torch.Tensor:
    """Each goes for its own nearest gem, across first."""
    dx, dy = (obs[..., 4] * 14).round(), (obs[..., 5] * 14).round()
    across = torch.where(dx > 0, 1, 3)
    down = torch.where(dy > 0, 0, torch.where(dy < 0, 2, 4))
    return torch.where(dx != 0, across, down)


@pytest.fixture(scope="module")
def demos() -> Demonstrations:
    return demonstrate(collector, gems(), 6000, seed=1)


def test_demonstrations_are_what_was_lived(demos: Demonstrations) -> None:
    assert demos.obs.shape == (6016, 2, 22) and int(demos.start.sum()) >= 32
    assert torch.equal(collector(demos.obs), demos.action)
    assert demos.terminated.any() and demos.reward.max() >= 1
    same = demos.obs[32:64]
    assert torch.equal(demos.next_obs[:32][~demos.start[32:64]], same[~demos.start[32:64]])


def by_hand(model: MAMQL, expert: dict[str, Any], own: Any, starts: torch.Tensor) -> float:
    """The loss, number by number."""

    def lse(q: list[float]) -> float:
        return math.log(sum(math.exp(x) for x in q))

    def q_of(obs: torch.Tensor) -> list[list[list[float]]]:
        return model.values(obs).tolist()  # type: ignore[no-any-return]

    total, n = 0.0, len(expert["obs"])
    q, after = q_of(expert["obs"]), q_of(expert["next_obs"])
    for c in range(len(q)):
        gain = 0.0
        for b in range(n):
            a = expert["action"][b].tolist()
            pick = a[0] + 5 * a[1] if model.joint else a[c]
            r = q[c][b][pick] - (0 if expert["terminated"][b] else 0.99 * lse(after[c][b]))
            gain += (r - r * r / 4) / n
        total -= gain
        if own is None:
            first = q_of(starts)
            total += 0.01 * sum(lse(row) for row in first[c]) / len(starts)
        else:
            now, then = q_of(own["obs"]), q_of(own["next_obs"])
            for b in range(len(now[c])):
                ahead = 0 if own["terminated"][b] else 0.99 * lse(then[c][b])
                total += (lse(now[c][b]) - ahead) / len(now[c])
    return total


@pytest.mark.parametrize("method", ["marginal", "joint"])
@pytest.mark.parametrize("online", [True, False])
def test_the_losses_by_hand(method: str, online: bool, demos: Demonstrations) -> None:
    model = MAMQL(gems(2), demos, method=method, online=online, net_arch=(16,), seed=3)
    rows = {name: column[:9].clone() for name, column in demos._asdict().items()}
    rows["terminated"][::3] = True
    own = None
    if online:
        own = {k: demos._asdict()[k][50:57].clone() for k in ("obs", "next_obs", "terminated")}
        own["terminated"][2] = True
    starts = demos.obs[:5]
    loss = float(model.loss(rows, own, starts).detach())
    assert loss == pytest.approx(by_hand(model, rows, own, starts), rel=1e-4)


def test_joint_actions_go_there_and_back(demos: Demonstrations) -> None:
    model = MAMQL(gems(2), demos, method="joint")
    action = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    assert torch.equal(model._split(model._taken(action)), action)
    assert sorted(model._taken(action)[0].tolist()) == list(range(25))


@pytest.mark.parametrize(("method", "online"), [("marginal", True), ("marginal", False), ("clone", False)])
def test_it_imitates(method: str, online: bool, demos: Demonstrations) -> None:
    model = MAMQL(gems(8), demos, method=method, online=online, batch_size=128, seed=0).learn(300)
    fresh = demonstrate(collector, gems(64), 640, seed=77)
    right = (model.act_team(fresh.obs, deterministic=True) == fresh.action).float().mean()
    assert right > 0.75, right
    played = evaluate_batch(lambda obs: model.act_team(obs, True), gems(100), 100, 5)
    nobody = evaluate_batch(lambda obs: torch.randint(0, 5, obs.shape[:2]), gems(100), 100, 5)
    assert played.return_mean > nobody.return_mean + 0.5
    if method == "marginal":
        shown = model.recovered(fresh.obs, fresh.action, fresh.next_obs, fresh.terminated)
        other = model.recovered(fresh.obs, (fresh.action + 2) % 5, fresh.next_obs, fresh.terminated)
        assert shown.shape == (640, 2) and shown.mean() > other.mean() + 0.5, "what experts do is worth more"


def test_it_goes_on_where_it_was(demos: Demonstrations) -> None:
    whole, half = (MAMQL(gems(4), demos, net_arch=(16,), seed=1) for _ in range(2))
    whole.learn(20)
    half.learn(10)
    again = MAMQL(gems(4), demos, net_arch=(16,), seed=1)
    again.load(half.state())
    again.learn(10)
    for a, b in zip(whole.critic.parameters(), again.critic.parameters()):
        assert torch.equal(a, b)


def test_bad_demonstrations_are_refused(demos: Demonstrations) -> None:
    none = Demonstrations(*(column[:0] for column in demos))
    with pytest.raises(ValueError, match="empty"):
        MAMQL(gems(2), none)
    with pytest.raises(ValueError, match="not finite"):
        MAMQL(gems(2), demos._replace(obs=torch.full_like(demos.obs, float("nan"))))
    with pytest.raises(ValueError, match="another world, or cut"):
        MAMQL(gems(2), demos._replace(action=demos.action[:-1]))
    with pytest.raises(ValueError, match="another world, or cut"):
        MAMQL(gym.make_vec("cairn/Overcooked-CrampedRoom-v0", num_envs=2, device="cpu"), demos)
    with pytest.raises(ValueError, match="beyond the team's 5"):
        MAMQL(gems(2), demos._replace(action=demos.action + 3))
    with pytest.raises(ValueError, match="no first step"):
        MAMQL(gems(2), demos._replace(start=torch.zeros_like(demos.start)))
    with pytest.raises(ValueError, match="marginal, joint, clone"):
        MAMQL(gems(2), demos, method="gail")
    with pytest.raises(ValueError, match="discrete"):
        MAMQL("cairn/Spread-v0", demos)
