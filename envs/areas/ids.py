"""The ids of the worlds with reward areas, as a plain table: id, entry point, vector entry point, arguments."""

from typing import Any

_ONE, _MANY = "cairn.envs.areas.make:make", "cairn.envs.areas.make:make_vec"

AREA_IDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("cairn/RedundantArm-v0", _ONE, _MANY, {"world": "arm"}),
    ("cairn/ArmRepertoire-v0", _ONE, _MANY, {"world": "repertoire"}),
    ("cairn/HardMaze-v0", _ONE, _MANY, {"world": "maze"}),
    ("cairn/DeceptiveMaze-v0", _ONE, _MANY, {"world": "maze", "reward": "progress"}),
    (
        "cairn/DeceptiveMazePixels-v0",
        _ONE,
        _MANY,
        {"world": "maze", "reward": "progress", "sees": "picture", "ticks": 4, "pixels": 32},
    ),  # fmt: skip
    ("cairn/DeceptiveMazeView-v0", _ONE, _MANY, {"world": "maze", "reward": "progress", "sees": "view", "ticks": 4}),
    ("cairn/Curling-v0", _ONE, _MANY, {"world": "curling"}),
)
