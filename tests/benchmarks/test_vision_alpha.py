"""alpha swept small: the worlds, the distance, and the table of a model that sees how far a pole leans."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.benchmarks import vision_alpha
from cairn.benchmarks.tables import Cells
from cairn.shaping.vision import scenes


@pytest.fixture(scope="module")
def world() -> vision_alpha.World:
    return vision_alpha.cart_pole(3, 9)


def test_the_distance_knows_an_order_when_it_sees_one(world: vision_alpha.World) -> None:
    (true,) = world.pictures.truth.values()
    assert torch.allclose(world.prob.sum(-1), torch.ones(27, 2, dtype=torch.float64))
    assert vision_alpha.distance(world, true, true) == pytest.approx(0.0, abs=1e-6)
    assert vision_alpha.distance(world, 2 * true + 3, true) == pytest.approx(0.0, abs=1e-3)
    assert vision_alpha.distance(world, -true, true) == pytest.approx(1.0, abs=1e-3)
    noise = torch.randn(27, generator=torch.Generator().manual_seed(0))
    assert 0.2 < vision_alpha.distance(world, true + noise, true) < 0.95


def test_a_pole_that_leans_goes_on_falling(world: vision_alpha.World) -> None:
    prob = world.prob.reshape(3, 9, 2, 3, 9).sum(3)  # angles alone
    mean = (prob * torch.arange(9.0, dtype=torch.float64)).sum(-1)
    assert bool((mean[:, 7].mean(-1) > 7).all()) and bool((mean[:, 1].mean(-1) < 1).all())
    assert bool((mean[:, 4, 0] > 4).all()) and bool((mean[:, 4, 1] < 4).all()), "a push tilts it to the other side"


class Knowing:
    """Knows the true score of each picture of the world, and the words for it."""

    digest = "knowing"

    def __init__(self, world: vision_alpha.World) -> None:
        (self.true,) = world.pictures.truth.values()

    def images(self, frames: Tensor) -> Tensor:
        return torch.stack([self.true, (1 - self.true**2).sqrt()], -1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0, 0.0] if "upright" in text else [0.0, 1.0] for text in texts])


def test_the_table_goes_on_where_it_was(world: vision_alpha.World, tmp_path: Path) -> None:
    table = Cells(tmp_path / "alpha.csv", ("model", "seed", "world", "goal", "alpha"))
    for seed in (0, 0, 1):
        vision_alpha.sweep(table, "knowing", seed, Knowing(world), {"cartpole": world})
    rows = table.rows()
    assert [float(row["alpha"]) for row in rows] == 2 * list(vision_alpha.ALPHAS)
    assert float(rows[0]["starc"]) < 0.01 and float(rows[0]["pearson"]) > 0.999, "alpha 0 is the cosine, which it knows"
    assert float(rows[10]["pearson"]) > 0.8
    vision_alpha.picture(rows, tmp_path / "alpha.png")
    assert (tmp_path / "alpha.png").stat().st_size > 5000 and np.isfinite([float(r["starc"]) for r in rows]).all()


def test_the_table_by_hand() -> None:
    rows = [
        {"model": "m", "seed": seed, "world": world, "goal": goal, "alpha": alpha, "starc": starc}
        for seed, world, goal, alpha, starc in (
            ("0", "a", "x", "0.0", "0.1"), ("0", "b", "y", "0.0", "0.5"), ("1", "a", "x", "0.0", "0.4"),
            ("1", "b", "y", "0.0", "0.4"), ("0", "a in lights", "x", "0.0", "0.7"), ("0", "a", "x", "0.5", "0.2"),
            ("0", "a", "x", "1.0", "0.6"), ("0", "a in lights", "x", "0.5", "0.8"),
            ("0", "a in lights", "x", "1.0", "0.9"),
        )
    ]  # fmt: skip
    assert vision_alpha.over_seeds(rows, "m", False, 0.0) == pytest.approx([0.3, 0.4])
    assert vision_alpha.over_seeds(rows, "m", True, 0.0) == pytest.approx([0.7])
    told = vision_alpha.table_of(rows).splitlines()[2:]
    assert told == [
        "| m | plain | 2 | 0.350 (0.300 to 0.400) | 0.200 (0.200 to 0.200) | 0.600 (0.600 to 0.600) |",
        "| m | in lights | 1 | 0.700 (0.700 to 0.700) | 0.800 (0.800 to 0.800) | 0.900 (0.900 to 0.900) |",
    ]


def test_lamps_along_the_track(world: vision_alpha.World) -> None:
    found = vision_alpha.cart_pole_lit(3, 9)
    assert torch.equal(found.prob, world.prob)
    shares = torch.tensor(list(scenes.LIGHTS.values()))[:3].repeat_interleave(9, 0)
    plain, seen = world.pictures.frames.float(), found.pictures.frames.float()
    assert float((seen - plain * shares[:, None, None]).abs().max()) <= 0.5


def drawn(states: np.ndarray[Any, Any]) -> scenes.Pictures:
    """Noise in the place of pictures, and of scores."""
    generator = torch.Generator().manual_seed(len(states))
    frames = torch.randint(0, 256, (len(states), 64, 64, 3), generator=generator, dtype=torch.uint8)
    truth = {"a humanoid robot kneeling": torch.rand(len(states), generator=generator)}
    return scenes.Pictures(frames, [scenes.ROBOT] * len(states), scenes.ROBOT, truth)


def test_a_lamp_can_be_turned_to_and_changes_no_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "humanoid_at", drawn)
    found, plain, lamps = vision_alpha.humanoid_lit(variants=1), vision_alpha.humanoid(2000), len(scenes.LIGHTS)
    poses = len(plain.prob) // vision_alpha.VARIANTS
    prob = found.prob.reshape(lamps, poses, 6, lamps, poses)
    assert torch.allclose(found.prob.sum(-1), torch.ones(1, dtype=torch.float64))
    same, nothing = torch.eye(poses, dtype=torch.float64), torch.zeros(poses, poses, dtype=torch.float64)
    moves = plain.prob[:: vision_alpha.VARIANTS, :, :: vision_alpha.VARIANTS] * vision_alpha.VARIANTS
    for a in range(lamps):
        for b in range(lamps):
            assert torch.equal(prob[a, :, 5, b], same if b == (a + 1) % lamps else nothing)
            assert torch.allclose(prob[a, :, :5, b], moves if a == b else torch.zeros_like(moves))
    frames = found.pictures.frames.reshape(lamps, poses, 64, 64, 3)
    assert torch.equal(frames[0], plain.pictures.frames[:: vision_alpha.VARIANTS]), "the first lamp is white"
    assert float((frames[4].float() - 0.35 * frames[0].float()).abs().max()) <= 0.5
    for goal, score in found.pictures.truth.items():
        assert torch.equal(
            score.reshape(lamps, poses), plain.pictures.truth[goal][:: vision_alpha.VARIANTS].expand(lamps, -1)
        )


def test_the_rule_looks_at_held_out_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, float, int, int]] = []
    held_out = {3e-4: 0.9, 1e-3: 0.4, 3e-3: 0.5}

    def trains(folder: Path, shown: object, size: str, steps: int, batch: int, rate: float, **rest: Any) -> None:
        assert (size, batch, rest["patience"]) == ("tiny", vision_alpha.BATCH, vision_alpha.PATIENCE)
        asked.append((folder.name, str(shown), rate, steps, rest["seed"]))
        for step, loss in ((99, 2.0), (199, held_out[rate]), (299, 1.0)):
            rest["report"](step, {"loss": 1.0, "right": 0.5, "held_out": loss})

    monkeypatch.setattr(vision_alpha, "train_small_clip", trains)
    monkeypatch.setattr(vision_alpha, "learned_from", lambda count: count)
    monkeypatch.setattr(vision_alpha, "in_lights", lambda shown: f"lit {shown}")
    args = argparse.Namespace(models=tmp_path, pictures=40, batches=1000)
    for _ in range(2):
        folder, records = vision_alpha.train(args, "tiny", 2)
    assert folder.name == "tiny-2" and len(asked) == 4, "what is there is not trained again"
    assert asked[:3] == [(f"tiny-trial-{rate:g}", "40", rate, vision_alpha.TRIAL, 0) for rate in held_out]
    assert asked[3] == ("tiny-2", "40", 1e-3, 1000, 2)
    last = records[-1]
    assert (last["held out"], last["best at"], last["batches"], last["lights"]) == (0.4, 200, 300, False)
    assert vision_alpha.train(args, "tiny", 2, lights=True)[1][-1]["lights"] is True
    assert asked[4:7] == [(f"tiny-lights-trial-{rate:g}", "lit 40", rate, 200, 0) for rate in held_out]
    assert asked[7:] == [("tiny-lights-2", "lit 40", 1e-3, 1000, 2)]
