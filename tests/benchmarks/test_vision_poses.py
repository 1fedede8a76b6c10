"""The benchmark that trains poses from pictures: springs by hand, what is judged, the table."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cairn.benchmarks import vision_alpha, vision_poses
from cairn.shaping import Stretch
from cairn.shaping.vision import scenes


def test_springs_pull_the_joints_that_they_are_at() -> None:
    env: Any = vision_poses.batch("kneeling", 2, pictures=False)
    env.reset(seed=0)
    model, names = env.unwrapped.model, [env.unwrapped.model.actuator(k).name for k in range(17)]
    env.obs = torch.zeros_like(env.obs)
    knee, elbow = names.index("right_knee"), names.index("left_elbow")
    for name, k in (("right_knee", knee), ("left_elbow", elbow)):
        at = model.joint(name)
        for share, end in ((-0.4, at.range[0]), (0.4, at.range[1])):
            target = 0.4 * end  # of the way from standing to that end of the joint's range
            env.obs[0, at.qposadr[0] - 2] = target + 0.1
            env.obs[0, 22 + at.dofadr[0]] = 2.0
            action = torch.zeros(2, 17)
            action[0, k] = share
            pulled = env.torques(action)
            assert float(pulled[0, k]) == pytest.approx(-1.6 * 0.1 - 0.05 * 2.0, abs=1e-6), name
            assert float(pulled[1, k]) == 0, "stands as it is to stand"
        env.obs[0, at.qposadr[0] - 2] = target - 3.0
        assert float(env.torques(action)[0, k]) == pytest.approx(0.4), "the task's own torques at most"
        env.obs = torch.zeros_like(env.obs)
    env.close()


def test_bent_knees_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_poses, "HOLD", 15)
    env: Any = vision_poses.batch("kneeling", 1, pictures=False)
    env.reset(seed=0)
    knees = [k for k in range(17) if env.unwrapped.model.actuator(k).name.endswith("_knee")]
    action = torch.zeros(1, 17)
    action[:, knees] = -0.5
    obs, *_ = env.step(action)
    places = env.places[knees]
    assert float(obs[0, places].max()) < -0.8, "from 0 towards -80 degrees"
    state = env.state_dict()
    ahead = env.step(action)[0].clone()
    env.load_state_dict(state)
    assert torch.equal(env.step(action)[0], ahead)
    env.close()


def test_every_pose_is_within_reach() -> None:
    most = {pose: max(vision_poses.reached(pose)) for pose in vision_poses.POSES}
    assert most["kneeling"] > 0.8 and most["doing the splits"] > 0.8 and most["raising its arms"] > 0.2


def test_what_is_judged_is_the_true_score_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_poses, "EPISODES", 2)
    monkeypatch.setattr(vision_poses, "LENGTH", 3)
    monkeypatch.setattr(vision_poses, "HOLD", 10)
    bent = torch.zeros(2, 17)
    bent[1, [6, 10]] = -0.5  # both knees of the second body; the first one stands, for a while
    monkeypatch.setattr(vision_poses, "acting", lambda model, deterministic: lambda obs: bent)
    model: Any = None
    told = vision_poses.judged(model, "kneeling", 3)
    monkeypatch.setattr(vision_poses, "LENGTH", 30)
    monkeypatch.setattr(vision_poses, "HOLD", 1)
    env = vision_poses.batch("kneeling", 2, pictures=False)
    assert [env.unwrapped.model.actuator(k).name for k in (6, 10)] == ["right_knee", "left_knee"]  # type: ignore[attr-defined]
    env.reset(seed=10_003)
    rewards = torch.stack([env.step(bent)[1] for _ in range(30)])
    env.close()
    assert 0 < float(rewards.mean()) < float(rewards.max(1).values.mean()), "bodies differ, and so do steps"
    assert told["score"] == pytest.approx(float(rewards.mean()), abs=1e-6)
    assert told["last"] == pytest.approx(float(rewards[-1].mean()), abs=1e-6)


def test_rewards_of_the_score() -> None:
    zero = torch.zeros(2)
    x = Stretch.make(obs=zero, next_obs=zero, reward=torch.tensor([0.25, 0.5]), terminated=zero.bool())
    assert vision_poses.true(x).tolist() == [0.25, 0.5] and vision_poses.constant(x).tolist() == [1, 1]


def test_pictures_are_taken_where_actions_end_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LENGTH", 3), ("HOLD", 2)):
        monkeypatch.setattr(vision_poses, name, value)
    env: Any = vision_poses.batch("kneeling", 2, pictures=True)
    try:
        env.frame_every = 1
        assert env.frame_every == 1
        _, info = env.reset(seed=0)
    except RuntimeError as error:
        pytest.skip(f"no OpenGL here: {error}")
    painted, inner = [], env.unwrapped
    paint = inner._paint
    monkeypatch.setattr(inner, "_paint", lambda lane: (painted.append(lane), paint(lane))[1])
    for action in range(3):
        *_, truncated, info = env.step(torch.zeros(2, 17))
        assert info["_frame"].all() and torch.equal(info["_final_frame"], truncated)
        assert bool(truncated.all()) == (action == 2)
    assert painted == [0, 1, 0, 1, 0, 1, 0, 1], "one for each action and lane, and the first of the next episodes"
    env.close()


class Red:
    """Any picture is as red as it is."""

    digest = "red"

    def images(self, frames: Tensor) -> Tensor:
        red = frames[..., 0].float().mean((1, 2)) / 255
        return torch.stack([red, (1 - red**2).sqrt()], -1)

    def texts(self, texts: list[str]) -> Tensor:
        return torch.tensor([[1.0, 0.0] if "kneel" in text else [0.0, 1.0] for text in texts])


def test_how_a_score_agrees_with_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.tensor([0.0, 0.5, 1.0])
    pictures = scenes.Pictures(
        (255 * truth[:, None, None, None]).to(torch.uint8).expand(3, 2, 2, 3),
        ["a"] * 3,
        scenes.ROBOT,
        {f"{scenes.ROBOT} {pose}": truth if pose == "kneeling" else truth.flip(0) for pose in vision_poses.POSES},
    )
    monkeypatch.setattr(vision_poses, "moved", lambda count, seed: (count, seed))
    monkeypatch.setattr(scenes, "humanoid_at", lambda states, coarse: pictures)
    embedder: Any = Red()
    embedder.texts = lambda texts: torch.tensor([[0.0, 1.0] if t == scenes.ROBOT else [1.0, 0.0] for t in texts])
    found = vision_poses.agreement(embedder, 3, coarse=True)
    assert [row[:2] for row in found[:2]] == [("kneeling", "alpha 0.5"), ("kneeling", "alpha 0.5, sharp")]
    plain, sharp, *others = [row[2] for row in found]
    assert 0.95 < plain <= 1 and 0.8 < sharp < plain, "the middle is paid like the lower end"
    assert others[0] == pytest.approx(-plain, abs=1e-2) and len(others) == 4


def test_a_cell_of_each_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EPISODES", 2), ("LENGTH", 3), ("HOLD", 2), ("LANES", 2)):
        monkeypatch.setattr(vision_poses, name, value)
    monkeypatch.setitem(vision_poses.SETTINGS, "n_steps", 8)
    embedder: Any = Red()
    found = vision_poses.rewards_of(embedder, "kneeling", 3)
    assert list(found) == ["true", "constant", "no baseline", "alpha 0.5", "alpha 0.5, sharp"]
    for name in ("true", "alpha 0.5, sharp"):
        try:
            row = vision_poses.cell(name, found[name], "kneeling", 0, 32)
        except RuntimeError as error:
            pytest.skip(f"no OpenGL here: {error}")
        assert list(row)[:4] == ["pose", "reward", "seed", "steps"] and 0 <= float(str(row["score"])) <= 1
    seen = found["alpha 0.5"].inputs[0]
    assert (seen.alpha, seen.baseline, seen.sharpness) == (0.5, (scenes.ROBOT,), 0)
    assert found["alpha 0.5, sharp"].inputs[0].sharpness == vision_poses.SHARPNESS
    assert found["no baseline"].inputs[0].alpha == 0


def test_moved_bodies_are_of_all_kinds_and_the_same_again() -> None:
    states = vision_poses.moved(160, seed=3)
    assert states.shape == (160, 24) and (states == vision_poses.moved(160, seed=3)).all()
    upright = 1 - 2 * (states[:, 4] ** 2 + states[:, 5] ** 2)
    assert (upright > 0.8).any() and (upright < 0.3).any(), "bodies stand, and have fallen"
    knees = states[:, 2 + vision_poses.batch("kneeling", 1, pictures=False).places[6]]  # type: ignore[attr-defined]
    assert knees.min() < -1.0 and knees.max() > -0.5


def test_the_small_model_learns_of_moving_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    try:
        pictures = vision_poses.shown(many=16, still=8)
    except RuntimeError as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert len(pictures) == 24 and len(pictures.more) == 24
    calls: list[int] = []
    monkeypatch.setattr(vision_poses, "shown", lambda: (calls.append(1), pictures)[1])
    args = argparse.Namespace(model=None, models=tmp_path, size="tiny", still=False, batches=2)
    folder = vision_poses.clip_of(args)
    assert vision_poses.clip_of(args) == folder and calls == [1], "trained once"
    assert folder.name.startswith(vision_poses.MOVING)
    assert '"patch_size": 8' in (folder / "config.json").read_text()


def test_the_still_model_is_vision_alphas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(
        vision_alpha, "train", lambda args, size, seed: (asked.append((size, seed)), (Path("x"), []))[1]
    )
    args = argparse.Namespace(model=None, models=tmp_path / "new", size="medium", still=True)
    assert vision_poses.clip_of(args) == Path("x") and asked == [("medium", 0)]
    assert vision_poses.clip_of(argparse.Namespace(model="own")) == Path("own")


def test_the_table_by_hand() -> None:
    one = {"pose": "kneeling", "reward": "true", "before": "0.1", "score": "0.5", "last": "0.4"}
    lines = vision_poses.table([one, {**one, "score": "0.7", "last": "0.8"}, {**one, "pose": "lying"}]).splitlines()
    assert lines[2] == "| kneeling | true | 2 | 0.100 | 0.600 | 0.500 to 0.700 | 0.600 |"
    assert lines[3] == "| lying | true | 1 | 0.100 | 0.500 | 0.500 to 0.500 | 0.400 |"
