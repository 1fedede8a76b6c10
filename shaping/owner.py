"""The way from a reward back to the agent that holds it, without keeping the agent alive.

A model holds its reward, and terms ask the model's policy, or draw from its replay buffer. Held both ways, a rollout of
a gigabyte would wait for Python's cycle collector, which counts objects and not bytes.
"""

from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class Owner(Generic[T]):
    """A weak reference: ``owner()`` is what it was made with.

    In a deep copy of the owner it leads to the copy; in a copy of a part, to the same owner.

    Args:
        owner: What holds, directly or not, this.
    """

    def __init__(self, owner: T) -> None:
        self._ref, self._name = ref(owner), type(owner).__name__

    def __call__(self) -> T:
        """The owner.

        Raises:
            RuntimeError: It is gone.
        """
        owner = self._ref()
        if owner is None:
            raise RuntimeError(f"this reward asks the {self._name} that it was bound to, and that is gone: keep it too")
        return owner

    def __deepcopy__(self, memo: dict[int, Any]) -> "Owner[T]":
        new, copied = object.__new__(type(self)), memo.get(id(self._ref()))
        new._ref, new._name = self._ref if copied is None else ref(copied), self._name
        return new

    def __getstate__(self) -> dict[str, Any]:
        """For agents that pickle their buffers: the owner itself, which pickle has met before."""
        return {"owner": self()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["owner"])  # type: ignore[misc]
