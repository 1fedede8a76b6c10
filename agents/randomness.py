"""The global random streams that a run draws from, as a state tree."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """The global random streams of torch, NumPy and Python, as a state tree."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {"keys": np.array(keys), "position": int(position), "has_gauss": int(has_gauss), "gauss": gauss},
        "python": {"version": version, "words": np.array(words, np.uint64), "gauss": next_gauss},
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    numpy, python = state["numpy"], state["python"]
    np.random.set_state(("MT19937", numpy["keys"], numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    random.setstate((python["version"], tuple(int(word) for word in python["words"]), python["gauss"]))
