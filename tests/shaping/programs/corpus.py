"""The attack corpus: programs in text files, each with what must become of it.

A line ``expected | expression`` stands for a program that returns the expression; ``== expected | title`` begins a
whole one. What is expected: the layer that refuses it ("text", "syntax", "types", "budget"), "behaviour:<problem>", or
"runs".
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cairn.shaping.programs import BehaviourError, Input, Jail, JailError, ProgramError, check_program, compile_program

FOLDER = Path(__file__).parent / "corpus"
INPUTS = (
    Input("position", "i", (2,), "where the agent is"),
    Input("next_position", "i", (2,), "where it is next"),
    Input("distance", "f", (), "to the goal"),
    Input("next_distance", "f", (), "to the goal, after the step"),
    Input("carrying", "b"),
    Input("terminated", "b"),
    Input("qpos", "f", (3,)),
)
HEAD = "def reward(position, next_position, distance, next_distance, carrying, terminated, qpos):\n    return "


class Attack(NamedTuple):
    """A program of the corpus."""

    family: str
    title: str
    expected: str
    text: str


def corpus() -> list[Attack]:
    """Every program, in order; the larger ones are made here rather than kept as files."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        family, blocks = path.stem, path.read_text(encoding="utf-8").split("\n== ")
        for line in blocks[0].split("\n"):
            if line and not line.startswith("#"):
                expected, _, expression = line.partition("|")
                found.append(Attack(family, expression.strip(), expected.strip(), HEAD + expression.strip() + "\n"))
        for block in blocks[1:]:
            title, _, text = block.partition("\n")
            expected, _, name = title.partition("|")
            found.append(Attack(family, name.strip(), expected.strip(), text))
    return found + made()


def made() -> list[Attack]:
    """Programs that are too long or too odd for a file."""
    deep = {
        "brackets": "(" * 5000 + "distance" + ")" * 5000,
        "lists": "[" * 180 + "1" + "]" * 180,
        "minus": "-" * 300 + "distance",
        "not": "not " * 80 + "carrying",
        "powers": "2**" * 100 + "1",
        "calls": "abs(" * 60 + "distance" + ")" * 60,
        "attributes": "distance" + ".x" * 150,
        "indices": "qpos" + "[:]" * 100,
        "sums": "1" + "+1" * 190,
        "comparisons in brackets": "(" * 60 + "1" + "<2)" * 60,
        "choices": "1 if carrying else " * 18 + "2",
    }
    layers = {"brackets": "text", "choices": "runs", "minus": "budget"}
    found = [Attack("10_exhaustion", f"deep {k}", layers.get(k, "budget"), HEAD + v + "\n") for k, v in deep.items()]
    head = "def reward(distance, carrying):\n"
    nested = head + "".join("    " * i + "if carrying:\n" for i in range(1, 40)) + "    " * 40 + "x = 1\n    return 1\n"
    chain = (
        head
        + "    if distance > 1:\n        x = 1\n"
        + "    elif distance > 1:\n        x = 1\n" * 100
        + "    return 1\n"
    )
    return found + [
        Attack("10_exhaustion", "blocks in blocks", "budget", nested),
        Attack("10_exhaustion", "a long chain of elif", "budget", chain),
        Attack("10_exhaustion", "a long text", "text", head + "    # so long\n" * 2000 + "    return distance\n"),
        Attack("10_exhaustion", "a long line", "text", head + "    return distance" + " + 1" * 200 + "\n"),
        Attack("10_exhaustion", "many words", "budget", head + "    x = 1,1,1,1,1,1,1,1,1\n" * 700 + "    return 1\n"),
        Attack("10_exhaustion", "a long number", "text", head + "    return 1" + "0" * 300 + "\n"),
        Attack("10_exhaustion", "many parameters", "budget",
               "def reward(" + ",\n".join(f"a{i}" for i in range(90)) + "):\n  return 1\n"),
        Attack("10_exhaustion", "many operations", "budget",
               head + "    x = distance\n    for i in range(900):\n        x = x * i + sin(x) * i + cos(x) + i\n"
               + "    return x\n"),
        Attack("10_exhaustion", "constants that grow by doubling", "budget",
               head + "    x = (1, 1)\n" + "    x = (x, x)\n" * 40 + "    for a in x:\n"
               + "        distance = distance + sum(a)\n"
               + "    return distance\n"),
        Attack("10_exhaustion", "tuples that double, merged", "budget",
               head + "    x = (1, 1)\n    y = (1, 2)\n" + "    x = (x, x)\n    y = (y, y)\n" * 40
               + "    if carrying:\n        x = y\n    return distance\n"),
        Attack("10_exhaustion", "tuples that double, of other lengths", "types",
               head + "    x = (1, 1)\n    y = (1, 1)\n" + "    x = (x, x)\n    y = (y, y)\n" * 40
               + "    if carrying:\n        x = (y, 1)\n    else:\n        x = (x, 1, 2)\n    return distance\n"),
        Attack("10_exhaustion", "tuples that double, as an array", "budget",
               head + "    x = (1, 1)\n" + "    x = (x, x)\n" * 40 + "    return distance + sum(tensor(x))\n"),
        Attack("10_exhaustion", "components that double, merged", "budget",
               head + "    x = {'a': 1}\n    y = {'a': 2}\n" + "    x = {'a': x, 'b': x}\n"
               "    y = {'a': y, 'b': y}\n" * 40
               + "    if carrying:\n        x = y\n    return distance\n"),
        Attack("10_exhaustion", "many large arrays held at once", "budget",
               "def reward(qpos):\n    a = cat([qpos, qpos, qpos, qpos, qpos, qpos, qpos, qpos], dim=-1)\n"
               "    b = a[:, :, None, None] * a[:, None, :, None] * a[:, None, None, :]\n"
               + "".join(f"    b{i} = sin(b) + {i}\n" for i in range(12)) + "    total = 0.0\n"
               + "".join(f"    total = total + sum(b{i} * b, dim=(1, 2, 3))\n" for i in reversed(range(12)))
               + "    return total\n"),
        Attack("10_exhaustion", "deep expressions in functions in functions", "budget",
               "".join(f"def f{i}(x):\n    return " + "abs(" * 30 + (f"f{i - 1}(x)" if i else "x") + ")" * 30 + "\n"
                       for i in range(7)) + "def reward(distance):\n    return f6(distance)\n"),
        Attack("10_exhaustion", "functions that call each other down", "budget",
               "".join(f"def f{i}(x):\n    return " + (f"f{i - 1}(x)" if i else "x") + "\n" for i in range(12))
               + "def reward(distance):\n    return f11(distance)\n"),
        Attack("10_exhaustion", "much arithmetic of constants", "budget",
               head + "    n = 0\n    for i in range(900):\n" + "        n = i * 2 + 3\n" * 20
               + "    return distance + n\n"),
        Attack("09_letters", "a null byte", "text", HEAD + "dist\0ance\n"),
        Attack("09_letters", "a tab", "text", "def reward(distance):\n\treturn distance\n"),
        Attack("09_letters", "a form feed", "text", "def reward(distance):\n    \fx = 1\n    return distance\n"),
        Attack("09_letters", "carriage returns", "text", "def reward(distance):\r    return distance\r"),
        Attack("09_letters", "an escape for terminals", "text", HEAD + "distance # \x1b[2J\n"),
        Attack("09_letters", "a surrogate", "text", HEAD + "dist\udc80ance\n"),
        Attack("13_channel", "a refusal that carries a message", "types", HEAD + "ignore_previous_instructions()\n"),
    ]  # fmt: skip


def batch(rows: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    """Experience for the corpus: every input, ``[rows, ...]``."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {}
    for i in INPUTS:
        shape = (rows, *i.shape)
        values = {
            "f": rng.random(shape).astype(np.float32),
            "i": rng.integers(0, 5, shape),
            "b": rng.random(shape) < 0.5,
        }
        out[i.name] = values[i.kind]
    return out


def outcome(text: str) -> str:
    """What becomes of a program in this process: the layer, the problem, or "runs"."""
    try:
        tape = compile_program(text, INPUTS)
        check_program(tape.numpy, batch(), tape.names)
    except ProgramError as error:
        return error.layer
    except BehaviourError as error:
        return f"behaviour:{error.problem}"
    return "runs"


def jailed_outcome(jail: Jail, text: str) -> str:
    """The same in a jailed worker."""
    try:
        jail.compile(text, INPUTS)
        check_program(jail.run, batch(), jail.names)
    except ProgramError as error:
        return error.layer
    except BehaviourError as error:
        return f"behaviour:{error.problem}"
    except JailError as error:
        return f"jail:{error.outcome}"
    return "runs"
