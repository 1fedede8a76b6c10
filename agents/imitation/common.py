"""What imitators share: taking demonstrations, drawing from them, saving without them."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from ...envs.spaces import Tree, tree_map
from ...shaping.state import pack, unpack
from ...shaping.stretch import Stretch
from ...shaping.term import node_seed
from ..actions import ActionForm
from ..base import BatchAlgorithm
from ..data.demonstrations import Demonstrations, demonstrations

C = TypeVar("C", bound=type)


def with_settings_of_bases(cls: C) -> C:
    """Let ``inspect.signature(cls)`` show the settings that the constructor hands on as ``**kwargs``.

    ``cairn train`` and ``help`` read them there.
    """
    shown: dict[str, inspect.Parameter] = {}
    own = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    agent = next(base for base in cls.__mro__[1:] if issubclass(base, BatchAlgorithm))
    above = inspect.signature(agent).parameters
    for name, parameter in (*own.items(), *above.items()):
        if name == "self" or parameter.kind == parameter.VAR_KEYWORD or name in shown:
            continue
        shown[name] = parameter.replace(kind=parameter.KEYWORD_ONLY)
    cls.__signature__ = inspect.Signature(list(shown.values()))  # type: ignore[attr-defined]
    return cls


class Imitator:
    """Mixed into an agent: it has demonstrations, and remembers from which folder.

    A saved model holds the folder's name, or nothing where the demonstrations were an object: then ``load(..., env=...,
    demonstrations=...)`` wants them again to go on learning.
    """

    demos: Demonstrations | None = None
    _of: str | None = None
    _drawn: torch.Generator
    _columns: Stretch | None = None

    def _take_demonstrations(self, given: Any) -> None:
        """Keep demonstrations before the model is built; None is for a loaded model that only predicts."""
        if given is None:
            return
        self._of = None if isinstance(given, Demonstrations) else str(given)
        if (
            not isinstance(given, str | Path) or Path(given).exists()
        ):  # a run can be looked at without the data that it learned from
            self.demos = demonstrations(given)

    def _know_demonstrations(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], seed: Any) -> None:
        """Hold them against the environment, and seed the draws.

        Raises:
            ValueError: They are of other spaces.
        """
        seed = 0 if seed is None else int(seed)
        self._drawn = torch.Generator().manual_seed(node_seed(seed, "demonstrations"))
        if self.demos is not None:
            self.demos.check_spaces(observation_space, action_space)

    def expert(self, rows: int) -> Stretch:
        """Draw ``rows`` steps of the demonstrations, on the agent's device.

        Raises:
            ValueError: There are none.
        """
        if self.demos is None:
            lost = "" if self._of is None else f" ({self._of} is not there)"
            raise ValueError(
                f"there are no demonstrations to learn from{lost}: give demonstrations=, a "
                "cairn.agents.data.Demonstrations or the folder that `cairn collect` wrote"
            )
        device: torch.device = self.device  # type: ignore[attr-defined]
        if self._columns is None or self._columns.device != device:
            self._columns = self.demos.to(device)
        index = torch.randint(len(self.demos), (rows,), generator=self._drawn).to(device)
        return self._columns[index]

    @classmethod
    def _arguments(cls, meta: dict[str, Any], env: Any, config: dict[str, Any]) -> None:
        super()._arguments(meta, env, config)  # type: ignore[misc]
        if env is None:
            config["demonstrations"] = None
        elif config.get("demonstrations") is None:
            raise ValueError(
                "the model learned from demonstrations that were an object, which a file cannot hold: pass them again, "
                "load(..., env=..., demonstrations=...)"
            )

    def _imitation_state(self) -> dict[str, Any]:
        return {"drawn": pack(self._drawn)}

    def _load_imitation_state(self, state: Mapping[str, Any]) -> None:
        self._drawn = unpack(self._drawn, state["drawn"])


def network_action(form: ActionForm, action: Tensor) -> Tensor:
    """Executed actions ``[B, *shape]`` as networks have them, ``[B, D]``: the inverse of ``ActionForm.executed``."""
    if form.choices is not None:
        return (action - form.start).reshape(len(action), 1)
    width = (form.high - form.low).float()
    return (2 * (action.float() - form.low) / width - 1).clamp(-1, 1).reshape(len(action), -1)


def policy_action(space: gym.Space[Any], action: Tensor) -> Tensor:
    """Executed actions ``[B, ...]`` as ``ActorCriticPolicy.evaluate_actions`` wants them."""
    if isinstance(space, spaces.Discrete):
        return action - int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return action - torch.as_tensor(space.start, device=action.device)
    return action.float() if isinstance(space, spaces.Box | spaces.MultiBinary) else action


def rows_of(tree: Tree, index: Any) -> Tree:
    """Some rows of a tree."""
    picked: Tree = tree_map(lambda v: v[index], tree)
    return picked
