"""Play by hand, on SDL's dummy display."""

import os
import subprocess
import sys

import pytest

from cairn.cli import main
from cairn.envs.grid import human, single


def feed(monkeypatch, keys):
    """Press keys, by name; then close the window."""
    import pygame

    pygame.display.init()
    events = iter(
        [pygame.event.Event(pygame.MOUSEMOTION)]
        + [pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(key)) for key in keys]
        + [pygame.event.Event(pygame.QUIT)]
    )
    monkeypatch.setattr(pygame.event, "wait", lambda: next(events))
    return events


def test_a_level_is_solved_by_hand(monkeypatch, capsys):
    import pygame

    calls = []
    inner = single.make

    def make(upstream, **kwargs):
        assert kwargs == {"render_mode": "human"}
        env = inner(upstream, **kwargs)
        calls.append(env)
        return env

    monkeypatch.setattr(single, "make", make)
    feed(monkeypatch, ["up", "up", "right", "up", "up", "left"])
    assert main(["play", "cairn/MiniGrid-Empty-5x5-v0", "--human", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert out.count("mission: get to the green goal square") == 2 and "solved, reward 0.95" in out and "1 level" in out
    assert calls[0].stream_key == (3, 0, 1)  # the next level of the same stream
    assert not pygame.display.get_init()  # closed


def test_every_key(monkeypatch):
    steps = []
    env = single.make("MiniGrid-DoorKey-5x5-v0")
    monkeypatch.setattr(type(env), "step", lambda self, action: steps.append(action) or ({}, 0.0, False, False, {}))
    feed(monkeypatch, ["left", "right", "up", "tab", "page up", "left shift", "page down", "space", "return", "q"])
    assert human.play("MiniGrid-DoorKey-5x5-v0") == 0
    assert steps == [0, 1, 2, 3, 3, 4, 4, 5, 6]


def test_backspace_escape_and_keys_that_an_environment_does_not_have(monkeypatch, capsys):
    left = feed(monkeypatch, ["tab", "backspace", "escape", "up"])
    assert human.play("cairn/MiniGrid-Dynamic-Obstacles-5x5-v0") == 0
    assert capsys.readouterr().out.count("mission:") == 2
    assert len(list(left)) == 2  # what came after escape


def test_no_id_and_no_display(monkeypatch, capsys):
    assert main(["play", "cairn/CartPole-v1", "--human"]) == 2
    assert "MiniGrid" in capsys.readouterr().err
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["SDL_VIDEODRIVER"] = "x11"
    code = "import sys; from cairn.cli import main; sys.exit(main(['play', 'cairn/MiniGrid-Empty-5x5-v0', '--human']))"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "no display" in run.stderr and "Traceback" not in run.stderr
    with pytest.raises(ValueError, match="by hand"):
        human.upstream_id("cairn/MiniGrid-WFC-MazeSimple-v0")
