"""The ids of the tabular worlds, as a plain table: id, entry point, vector entry point, arguments."""

from typing import Any

_ONE, _MANY = "cairn.envs.tabular.make:make", "cairn.envs.tabular.make:make_vec"


def _row(name: str, **kwargs: Any) -> tuple[str, str, str, dict[str, Any]]:
    return f"cairn/{name}-v0", _ONE, _MANY, kwargs


TABULAR_IDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    _row("Chain", world="chain"),
    _row("ChainDistractor", world="chain", distractor=0.01),
    _row("Room", world="room"),
    _row("RoomDistractor", world="room", distractor=0.01),
    _row("RoomGoal", world="room", reward=10.0, goal_ends=True, discount=0.95),
    _row("LineKey", world="line_key"),
    _row("LineK", world="line_k"),
    _row("LineK-Decoys", world="line_k", picks=2),
    _row("FourRooms", world="four_rooms"),
    _row("RandomMDP", world="random"),
    _row("Office", world="office"),
    _row("OfficeCoffee", world="office", task="coffee"),
    _row("OfficeMail", world="office", task="mail"),
    _row("OfficeCoffeeMail", world="office", task="coffee-mail"),
    _row("OfficePatrol", world="office", task="patrol"),
    _row("OfficeTasks", world="office", task="all"),
    _row("Craft", world="craft"),
    _row("CraftGem", world="craft", task="gem"),
    _row("CraftTasks", world="craft", task="all"),
)
