"""What the bits of a run depend on besides its files: versions, the processor, threads."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "numpy", "gymnasium", "minigrid", "stable-baselines3", "warp-lang", "mujoco")


def versions() -> dict[str, Any]:
    """What this process runs on: Python, packages (None where absent), platform, processor, torch's threads.

    Threads and the vector instructions torch uses are None while torch is not imported.
    """
    from .. import __version__

    found: dict[str, Any] = {"cairn": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["platform"] = f"{platform.system()} {platform.machine()}"
    torch = sys.modules.get("torch")
    found["instructions"] = torch.backends.cpu.get_cpu_capability() if torch else None
    found["threads"] = torch.get_num_threads() if torch else None
    found["cpus"] = os.cpu_count()
    return found


def version_note(saved: Any, now: dict[str, Any] | None = None) -> str | None:
    """One line for a person if a run made elsewhere may go on with other bits, else None.

    Args:
        saved: What ``versions()`` said when the run was made.
        now: What it says now, by default.
    """
    now = versions() if now is None else now
    saved = saved if isinstance(saved, dict) else {}
    changed = [
        f"{name} {str(saved[name])[:40]} -> {value}"
        for name, value in now.items()
        if name != "cpus" and saved.get(name) is not None and value is not None and saved[name] != value
    ]
    return (
        f"The run was made with other versions ({', '.join(changed)}): its bits may differ from here on."
        if changed
        else None
    )
