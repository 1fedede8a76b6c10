"""Demonstrations: whole episodes that somebody has lived, in memory and in files."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "Demonstrations": "demonstrations",
        "babyai_bot": "babyai",
        "collect": "collecting",
        "collect_single": "collecting",
        "from_episodes": "convert",
        "from_imitation": "convert",
        "from_sb3": "collecting",
        "from_minari": "minari_files",
        "register_mission_space": "minari_files",
        "solver": "collecting",
        "to_minari": "minari_files",
    },
)
