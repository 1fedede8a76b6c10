"""The pictures of a run can be written, read back, and say what they should."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from cairn.agents.pictures import Caption, captioned, learning_curve, mission_of, write_video


def ink(path: Path) -> np.ndarray:
    """Where a picture is not white, ``[H, W]``."""
    return matplotlib.image.imread(path)[..., :3].min(-1) < 0.9


def test_a_learning_curve_shows_its_data(tmp_path: Path) -> None:
    rows = [{"step": k * 100.0, "rollout/ep_rew_mean": k / 20, "rollout/success_rate": k / 20} for k in range(20)]
    rows[10] |= {"eval/return": 0.5, "eval/success": 0.5, "eval/success_low": 0.4, "eval/success_high": 0.6}
    learning_curve(rows, tmp_path / "a.png", "title", goal=0.95)
    learning_curve([], tmp_path / "b.png", "title")
    full, empty = ink(tmp_path / "a.png"), ink(tmp_path / "b.png")
    assert full.shape == empty.shape and min(full.shape) > 500
    assert full.mean() > empty.mean() > 0


def test_a_curve_of_an_environment_without_success(tmp_path: Path) -> None:
    rows = [{"step": 1.0, "rollout/ep_rew_mean": 20.0}, {"step": 2.0, "rollout/ep_rew_mean": None}]
    learning_curve(rows, tmp_path / "a.png", "title")
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("shape", [(64, 64, 3), (100, 333, 3), (800, 600, 3)])
def test_captioned_frames_are_what_the_encoder_takes(shape: tuple[int, int, int]) -> None:
    frame = captioned(np.zeros(shape, np.uint8), Caption("word " * 100, "step 1", outcome=True))
    assert frame.dtype == np.uint8 and frame.shape[1] == 480
    assert frame.shape[0] % 16 == 0 and frame.shape[0] > 480 * shape[0] / shape[1]
    assert tuple(frame[0, 0]) == (40, 200, 80)  # the green edge
    assert frame[-52:].max() > 150  # writing


def test_video_frames_come_back(tmp_path: Path) -> None:
    import imageio_ffmpeg

    frames = [captioned(np.full((32, 32, 3), shade, np.uint8), Caption("a", "b")) for shade in (0, 128, 255)]
    assert write_video(frames, tmp_path / "v.mp4", fps=5) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4"))
    meta = next(reader)
    height, width = frames[0].shape[:2]
    assert meta["size"] == (width, height) and meta["fps"] == 5
    shades = [np.frombuffer(raw, np.uint8).reshape(height, width, 3)[:400].mean() for raw in reader]
    assert shades == pytest.approx([0, 128, 255], abs=8)


def test_no_frames_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video([], tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


def test_mission_of() -> None:
    assert mission_of({"mission": "go"}, "x") == "go"
    assert mission_of(np.zeros(3), "x") == "x"
