"""Play by hand: a window of upstream's own, and the keys of minigrid's ``manual_control``."""

import os
from typing import Any

import gymnasium as gym

from . import layout as L
from . import single
from .ids import BABYAI_IDS, GRID_IDS

KEYS = {
    "left": L.LEFT,
    "right": L.RIGHT,
    "up": L.FORWARD,
    "space": L.TOGGLE,
    "tab": L.PICKUP,
    "page up": L.PICKUP,
    "pageup": L.PICKUP,
    "left shift": L.DROP,
    "page down": L.DROP,
    "pagedown": L.DROP,
    "return": L.DONE,
    "enter": L.DONE,
}
HELP = """arrows: turn and walk    space: open, close, unlock    tab: pick up    left shift: drop    return: done
backspace: another level    escape: leave"""


class NoDisplay(RuntimeError):
    """There is no display on which a window could open."""


def upstream_id(name: str) -> str:
    """Upstream's id of ``cairn/MiniGrid-X`` or ``MiniGrid-X``.

    Raises:
        ValueError: If it is no MiniGrid or BabyAI id of ours.
    """
    upstream = name.removeprefix("cairn/")
    if upstream not in GRID_IDS and upstream not in BABYAI_IDS:
        raise ValueError(
            f"{name} cannot be played by hand: that takes a MiniGrid or BabyAI id, see `cairn envs minigrid`"
        )
    return upstream


def play(name: str, seed: int = 0) -> int:
    """Open a window and play until it is closed, one level after the other; returns how many were solved.

    Args:
        name: ``"cairn/MiniGrid-DoorKey-8x8-v0"``, say.
        seed: The levels are those of ``reset(seed=seed)`` and the resets after it.

    Raises:
        ValueError: If the id is no MiniGrid id.
        NoDisplay: If there is no display.
    """
    upstream = upstream_id(name)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    try:
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":  # SDL's last resort where there is none
            raise pygame.error("only an offscreen driver")
    except pygame.error as error:
        raise NoDisplay(
            f"there is no display to open a window on ({error}). Over SSH, log in with `ssh -X`; without one, "
            "`cairn play RUN --video FILE` films an agent instead"
        ) from error
    env = single.make(upstream, render_mode="human")
    try:
        return _loop(env, pygame, seed)
    finally:
        env.close()
        pygame.quit()


def _loop(env: gym.Env[Any, Any], pygame: Any, seed: int) -> int:
    observation, _ = env.reset(seed=seed)
    print(f"{HELP}\nmission: {observation['mission']}", flush=True)
    solved = 0
    while True:
        event = pygame.event.wait()
        if event.type == pygame.QUIT:
            return solved
        if event.type != pygame.KEYDOWN:
            continue
        key = pygame.key.name(event.key)
        if key == "escape":
            return solved
        ended = key == "backspace"
        if key in KEYS and env.action_space.contains(KEYS[key]):  # Dynamic-Obstacles has three actions
            _, reward, terminated, truncated, _ = env.step(KEYS[key])
            ended = terminated or truncated
            if ended:
                won = terminated and float(reward) > 0
                print(f"solved, reward {reward:.2f}" if won else "failed" if terminated else "out of time")
                solved += won
        if ended:
            observation, _ = env.reset()
            print(f"mission: {observation['mission']}", flush=True)
