"""The ids of the worlds for many agents, as a plain table: id, entry points, arguments."""

from typing import Any

_ONE, _MANY = "cairn.envs.multi.make:make", "cairn.envs.multi.make:make_vec"


def _row(name: str, **kwargs: Any) -> tuple[str, str, str, dict[str, Any]]:
    return f"cairn/{name}-v0", _ONE, _MANY, kwargs


MULTI_IDS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    _row("SimpleSpread", world="simple_spread"),
    _row("Spread", world="spread"),
    _row("Bounce", world="bounce"),
    _row("Compromise", world="compromise"),
    _row("Chase", world="chase"),
    _row("Gems", world="gems"),
    _row("RockPaperScissors", world="matrix_game"),
    _row("Soccer", world="soccer"),
    _row("Overcooked-CrampedRoom", world="kitchen", kitchen="cramped_room"),
    _row("Overcooked-AsymmetricAdvantages", world="kitchen", kitchen="asymmetric_advantages"),
    _row("Overcooked-CoordinationRing", world="kitchen", kitchen="coordination_ring"),
    _row("Overcooked-ForcedCoordination", world="kitchen", kitchen="forced_coordination"),
    _row("Overcooked-CounterCircuit", world="kitchen", kitchen="counter_circuit"),
)

_CROSSING = "cairn.envs.multi.intersection"
BRIDGED_IDS = (("cairn/Intersection-v0", f"{_CROSSING}:make", f"{_CROSSING}:make_vec", dict[str, Any]()),)
"""Worlds of others for many agents, which need an extra."""
