"""The ids of Crafter as a plain table: id, entry points, arguments, time limit in steps."""

from typing import Any

_ONE, _MANY = "cairn.envs.crafter.single:make", "cairn.envs.crafter.single:make_vec"
_DIAMOND = {
    "goal": "collect_diamond",
    "start": "underground",
    "items": {"iron_pickaxe": 1},
    "area": (32, 32),
    "observation": "symbols",
    "actions": ("noop", "move_left", "move_right", "move_up", "move_down", "do", "place_stone"),
}

CRAFTER_IDS: tuple[tuple[str, str, str, dict[str, Any], int], ...] = (
    ("cairn/Crafter-v0", _ONE, _MANY, {}, 10_000),
    ("cairn/CrafterNoReward-v0", _ONE, _MANY, {"reward": False}, 10_000),
    ("cairn/CrafterDiamond-v0", _ONE, _MANY, _DIAMOND, 80),
)
"""They need the extra ``crafter``."""
