"""Ctrl-C and SIGTERM let a run save before it ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .progress import Reporter


class Stoppable(Protocol):
    """What is told of a signal, and looks at it where it can stop."""

    signum: int | None
    report: Reporter


@contextmanager
def signals(loop: Stoppable) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run at the next update boundary; the second one stops it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, _: Any) -> None:
        if loop.signum is not None:
            raise KeyboardInterrupt
        loop.signum = signum
        loop.report.say("stopping after this update, to save (once more: stop at once, without saving) ...")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
