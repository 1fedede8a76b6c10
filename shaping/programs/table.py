"""The form of the table of operations: names, arguments and what they mean, and how a name is looked up.

``torch.norm``, ``np.linalg.norm`` and ``norm`` are three names of one line. A dotted name is a key and nothing else: no
module is looked into, and what is not in the table is not there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from .builder import Builder
from .values import Nothing, Number, Value

Rule = Callable[..., Value]
REQUIRED = object()
# What may stand before an operation's name, and means nothing.
PREFIXES = frozenset({
    "torch", "np", "numpy", "math", "F", "torch.linalg", "np.linalg", "numpy.linalg", "torch.nn.functional",
    "nn.functional",
})  # fmt: skip
RESERVED = frozenset({"torch", "np", "numpy", "math", "F", "nn"})
# Arguments by torch's and NumPy's names.
SYNONYMS = {"axis": "dim", "keepdims": "keepdim", "a_min": "low", "a_max": "high", "min": "low", "max": "high",
            "input": "x", "other": "b", "ord": "p"}  # fmt: skip
CONSTANTS = {"pi": math.pi, "e": math.e}
KINDS = {"float32": "f", "float": "f", "int64": "i", "long": "i", "int": "i", "bool": "b", "bool_": "b"}


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: Its own name.
        parameters: Names of its arguments, with defaults where they may be left out.
        doc: What it gives, in a line.
        aliases: Other names.
        group: Under which heading the prompt lists it.
        rule: What it means, in terms of the builder.
    """

    name: str
    parameters: tuple[tuple[str, Any], ...]
    doc: str
    aliases: tuple[str, ...]
    group: str
    rule: Rule

    @property
    def signature(self) -> str:
        """As one would call it."""
        shown = [
            n if d is REQUIRED else f"{n}={'None' if isinstance(d, Nothing) else d.value}" for n, d in self.parameters
        ]
        return f"{self.name}({', '.join(shown)})"

    def call(self, build: Builder, args: tuple[Value, ...], names: tuple[str, ...], values: tuple[Value, ...]) -> Value:
        """Bind the arguments and apply the rule.

        Raises:
            ProgramError: They are not the operation's.
        """
        known = [name for name, _ in self.parameters]
        if self.parameters and self.parameters[-1][0] == "more":
            if names and len(args) == 1 and f"a{self.name}" in OPERATIONS:
                return OPERATIONS[f"a{self.name}"].call(build, args, names, values)  # max(x, dim=-1)
            if names:
                build.refuse(f"{self.name} has no argument {names[0]!r}")
            return self.rule(build, *args)
        if len(args) > len(known):
            build.refuse(f"{self.signature} has {len(known)} arguments, and {len(args)} are given")
        bound: dict[str, Value] = dict(zip(known, args))
        for name, value in zip(names, values):
            plain = name if name in known else SYNONYMS.get(name, name)
            if plain not in known:
                build.refuse(f"{self.signature} has no argument {name!r}")
            if plain in bound:
                build.refuse(f"{self.signature}: {name!r} is given twice")
            bound[plain] = value
        for name, default in self.parameters:
            if name not in bound:
                if default is REQUIRED:
                    build.refuse(f"{self.signature} needs {name!r}")
                bound[name] = default
        return self.rule(build, *(bound[name] for name in known))


OPERATIONS: dict[str, Operation] = {}
ALIASES: dict[str, str] = {}


def operation(signature: str, doc: str, group: str, *aliases: str) -> Callable[[Rule], Rule]:
    """Enter a rule in the table; defaults in the signature are numbers, True, False or None."""
    name, _, rest = signature.partition("(")
    parameters: list[tuple[str, Any]] = []
    for part in filter(None, rest.rstrip(")").split(", ")):
        key, equals, default = part.partition("=")
        words: dict[str, Value] = {"None": Nothing(), "True": Number(True), "False": Number(False)}
        value = words.get(default) or Number(float(default) if "." in default else int(default or 0))
        parameters.append((key, value if equals else REQUIRED))

    def enter(rule: Rule) -> Rule:
        OPERATIONS[name] = Operation(name, tuple(parameters), doc, aliases, group, rule)
        ALIASES.update({alias: name for alias in (name, *aliases)})
        return rule

    return enter


def find(dotted: str) -> Operation | None:
    """The operation of a name, with or without a known prefix."""
    prefix, _, name = dotted.rpartition(".")
    if prefix and prefix not in PREFIXES:
        return None
    return OPERATIONS.get(ALIASES.get(name, ""))


def nearest(name: str) -> str:
    """A hint at operations with similar names."""
    near = get_close_matches(name.rpartition(".")[2].lower(), list(ALIASES), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
