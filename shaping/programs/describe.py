"""The prompt's part on the language: written from the tables that the compiler asks, so that they cannot drift."""

from collections.abc import Iterable

from .inputs import Input
from .limits import LIMITS, Limits
from .lower import ENTRIES
from .operations import OPERATIONS
from .values import DTYPES

_TYPES = {"f": "float32", "i": "int64", "b": "bool"}
assert _TYPES == DTYPES


def describe(inputs: Iterable[Input] = (), limits: Limits = LIMITS) -> str:
    """What a model (or a person) needs to know to write a reward program.

    Args:
        inputs: What the environment gives; see ``inputs_of``.
        limits: The budgets.

    Returns:
        Text for a prompt: the form of a program, its inputs, its operations.
    """
    groups: dict[str, list[str]] = {}
    for operation in OPERATIONS.values():
        also = f" (also {', '.join(operation.aliases)})" if operation.aliases else ""
        groups.setdefault(operation.group, []).append(f"- {operation.signature}: {operation.doc}{also}")
    listed = [f"- {i.name}: {_TYPES[i.kind]} [{', '.join(['B', *map(str, i.shape)])}]. {i.doc}".rstrip(" .")
              for i in inputs]  # fmt: skip
    parts = [
        f"""Write one Python function

    def {ENTRIES[0]}(<inputs>):
        ...
        return reward, {{"name of a part": part, ...}}

Its parameters are inputs from the list below, by name. Everything is an array over B environments at once; axis 0 is
the batch, and a reward looks at one environment at a time, so reductions name an axis (dim=-1) and indices leave the
batch whole (x[:, 0]). reward and each part (at most {limits.components}) are float32 [B].

The language is a part of Python: assignments, arithmetic, comparisons, and / or / not of each environment, if and elif
and else (each environment takes its own branch; also a if c else b), for loops over range(n) or lists with a length
that is known, other functions with def (not recursive), tuples, lists, and dicts with names as keys. Nothing is
imported: operations are called by name, or as torch.name or np.name, or as methods (x.sum(dim=-1)). There is no while,
class, lambda, comprehension, try, with or attribute besides shape, and arrays are not written into: x = where(mask,
new, x). At most {limits.characters} characters, {limits.trips} rounds of all loops, {limits.instructions} operations.
The reward must be finite everywhere: guard divisions, logarithms and roots."""
    ]
    parts.append("Inputs:\n" + "\n".join(listed) if listed else "")
    for group, lines in groups.items():
        parts.append(f"Operations, {group}:\n" + "\n".join(lines))
    return "\n\n".join(filter(None, parts))
