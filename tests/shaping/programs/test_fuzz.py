"""Programs from a grammar, and programs that were then broken: all of them end well, in every layer alike."""

import random

import numpy as np
import pytest
import torch

from cairn.shaping.programs import Jail, ProgramError, check_program, compile_program
from cairn.shaping.programs.checks import BehaviourError
from cairn.shaping.programs.limits import Limits
from cairn.shaping.programs.operations import OPERATIONS

from .corpus import INPUTS, batch, corpus

SMALL = Limits(instructions=400, work=20_000, elements=256, live=8192, trips=60, steps=8_000)
MARKS = list("()[]{}:,.=+-*/%<>&|^~#'\"\\@;!\n \t") + [
    "**",
    "//",
    "==",
    "->",
    ":=",
    "    ",
    "__",
    "lambda ",
    "import os\n",
]
WORDS = ["distance", "qpos", "position", "carrying", "x", "i", "torch.", "np.", "math.", "if ", "else ", "for ", "in ",
         "return ", "def ", "and ", "not ", "None", "True", "1e9", "0", "-1", "__class__", ".shape", ".data", "exec",
         "self", "class ", "while True", "range(", "reward", *OPERATIONS]  # fmt: skip


class Writer:
    """Random programs, most of them right: names, shapes and blocks are kept track of, though not strictly."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = ["distance", "next_distance", "qpos[:, 0]", "position[:, 1]"]
        self.vectors = ["qpos", "(qpos * 2)", "qpos.abs()"]
        self.bools = ["carrying", "terminated", "(distance > 0.5)"]

    def number(self, depth: int = 0) -> str:
        r = self.random
        if depth > 3 or r.random() < 0.25:
            return r.choice([*self.numbers, f"{r.uniform(-3, 3):.2f}", str(r.randint(-3, 5))])
        a, b = (lambda: self.number(depth + 1)), (lambda: self.number(depth + 1))
        forms = [
            lambda: f"({a()} {r.choice(['+', '-', '*', '/', '//', '%'])} {b()})",
            lambda: f"{r.choice(['exp', 'torch.tanh', 'np.abs', 'sqrt', 'log1p', 'sign', 'sin', 'floor'])}({a()})",
            lambda: f"({a()} ** {r.choice(['2', '0.5', '-1', '3', b()])})",
            lambda: f"where({self.truth(depth + 1)}, {a()}, {b()})",
            lambda: f"({a()} if {self.truth(depth + 1)} else {b()})",
            lambda: f"{r.choice(['min', 'max', 'minimum', 'hypot', 'atan2'])}({a()}, {b()})",
            lambda: f"clip({a()}, {r.randint(-2, 0)}, {r.randint(1, 3)})",
            lambda: f"{r.choice(['sum', 'mean', 'amax', 'norm', 'prod'])}({self.vector(depth + 1)}, dim=-1)",
            lambda: f"dot({self.vector(depth + 1)}, {self.vector(depth + 1)})",
            lambda: f"{self.vector(depth + 1)}[:, {r.randint(-3, 3)}]",
            lambda: f"-{a()}",
        ]
        return r.choice(forms)()

    def vector(self, depth: int) -> str:
        r = self.random
        if depth > 3 or r.random() < 0.4:
            return r.choice(self.vectors)
        forms = [
            lambda: f"({self.vector(depth + 1)} {r.choice(['+', '-', '*'])} {self.vector(depth + 1)})",
            lambda: f"stack([{self.number(depth + 1)}, {self.number(depth + 1)}, distance], dim=-1)",
            lambda: f"exp(-{self.vector(depth + 1)})",
            lambda: f"({self.vector(depth + 1)} * [1, 0.5, {r.randint(-2, 2)}])",
            lambda: f"{self.vector(depth + 1)}[:, ::{r.randint(1, 2)}]",
        ]
        return r.choice(forms)()

    def truth(self, depth: int) -> str:
        r = self.random
        if depth > 3 or r.random() < 0.4:
            return r.choice(self.bools)
        return r.choice([
            f"({self.number(depth + 1)} {r.choice(['<', '>=', '==', '!='])} {self.number(depth + 1)})",
            f"({self.truth(depth + 1)} {r.choice(['and', 'or', '&', '|', '^'])} {self.truth(depth + 1)})",
            f"(not {self.truth(depth + 1)})", f"any({self.vector(depth + 1)} > 0, dim=-1)",
        ])  # fmt: skip

    def block(self, indent: str, depth: int) -> list[str]:
        r, lines = self.random, []
        for _ in range(r.randint(1, 4)):
            kind = r.random()
            if kind < 0.6 or depth > 2:
                lines.append(f"{indent}{r.choice('abc')} {r.choice(['=', '=', '+=', '-=', '*='])} {self.number()}")
            elif kind < 0.8:
                lines += [f"{indent}if {self.truth(0)}:", *self.block(indent + "    ", depth + 1)]
                if r.random() < 0.7:
                    lines += [f"{indent}else:", *self.block(indent + "    ", depth + 1)]
            elif kind < 0.95:
                lines += [f"{indent}for i in range({r.randint(0, 4)}):", *self.block(indent + "    ", depth + 1)]
            else:
                lines += [f"{indent}if {self.truth(0)}:", f"{indent}    return {self.number()}, {{'a': a, 'c': c}}"]
        return lines

    def program(self) -> str:
        head = "def reward(position, next_position, distance, next_distance, carrying, terminated, qpos):"
        start = ["    a = distance", "    b = 1.0", "    c = 0"]
        self.numbers += ["a", "b", "c", "helper(a)"]
        helper = ["def helper(x, k=2.0):", f"    return x * k + {self.random.uniform(-1, 1):.2f}"]
        last = f"    return {self.number()}, {{'a': a, 'c': c}}"
        return "\n".join([*helper, head, *start, *self.block("    ", 0), last, ""])

    def broken(self, text: str) -> str:
        """Some of the text cut, doubled, swapped or replaced."""
        r = self.random
        for _ in range(r.randint(1, 4)):
            a, b = sorted(r.randrange(len(text) + 1) for _ in range(2))
            b = min(b, a + 40)
            piece = r.choice([r.choice(MARKS), r.choice(WORDS), text[a:b] * 2, "", chr(r.randrange(0x250))])
            text = text[:a] + piece + text[r.choice([a, b]) :]
        return text


def outcome(text: str) -> str:
    """Compile and run on both back ends; anything but a clear refusal and a right answer fails."""
    try:
        tape = compile_program(text, INPUTS, SMALL)
    except ProgramError as error:
        assert error.layer in ("text", "syntax", "types", "budget") and len(str(error)) < 1500
        return error.layer
    assert tape.work <= SMALL.work and tape.live <= SMALL.live and len(tape.instructions) <= SMALL.instructions
    given = batch(16)
    kept = {name: array.copy() for name, array in given.items()}
    one = tape.numpy(given)
    other = tape.torch({name: torch.from_numpy(array) for name, array in given.items()})
    assert len(one.components) == len(other.components) == len(tape.names)
    for a, b in zip((one.reward, *one.components), (other.reward, *other.components)):
        assert a.shape == tuple(b.shape) == (16,) and a.dtype == np.float32 and b.dtype == torch.float32
    assert all(np.array_equal(given[name], kept[name]) for name in given)
    try:
        check_program(tape.numpy, given, tape.names, bound=1e30)
    except BehaviourError as error:
        # Rows never mix. (Rounding may differ where numbers are huge or a step function is at its edge.)
        assert error.problem in ("finite", "bounded", "leak"), error
        if error.problem == "leak":
            part = tape.numpy({name: array[3:4] for name, array in given.items()})
            assert agree(part.reward, one.reward[3:4]), text
        return error.problem
    return "runs"


def agree(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-2, atol=1e-2, equal_nan=True))


@pytest.mark.parametrize("seed", range(8))
def test_programs_from_the_grammar(seed: int) -> None:
    outcomes = [outcome(Writer(1000 * seed + i).program()) for i in range(25)]
    # The grammar is worth something: many programs run, or give numbers that the checks refuse.
    assert sum(o in ("runs", "finite") for o in outcomes) >= 8
    assert "leak" not in outcomes


@pytest.mark.parametrize("seed", range(8))
def test_programs_that_were_broken(seed: int) -> None:
    outcomes = []
    for i in range(60):
        writer = Writer(1000 * seed + i)
        outcomes.append(outcome(writer.broken(writer.program())))
    assert outcomes.count("syntax") > 10 and "leak" not in outcomes


def test_the_corpus_broken() -> None:
    attacks = [a for a in corpus() if len(a.text) < 2000]
    for i, attack in enumerate(attacks):
        outcome(Writer(i).broken(attack.text))


def test_text_that_is_no_program_at_all() -> None:
    r = random.Random(0)
    for _ in range(300):
        text = "".join(r.choice([*MARKS, *WORDS]) for _ in range(r.randrange(60)))
        outcome(f"def reward(distance, qpos, carrying):\n    x = {text}\n    return x\n" if r.random() < 0.5 else text)
    for _ in range(100):
        outcome("".join(chr(r.randrange(0x300)) for _ in range(r.randrange(100))))


def test_the_jail_agrees_with_this_process() -> None:
    """The same programs in a worker: the same refusals, the same numbers, and the worker lives on."""
    jail = Jail(size=1 << 20)
    jail.start()
    first, given = jail._process, batch(32)
    for i in range(60):
        writer = Writer(i)
        text = writer.program() if i % 2 else writer.broken(writer.program())
        try:
            expected = compile_program(text, INPUTS)
        except ProgramError as error:
            with pytest.raises(ProgramError) as caught:
                jail.compile(text, INPUTS)
            assert (caught.value.layer, caught.value.line) == (error.layer, error.line)
            continue
        jail.compile(text, INPUTS)
        out, here = jail.run(given), expected.numpy(given)
        np.testing.assert_array_equal(out.reward, here.reward)
        np.testing.assert_array_equal(out.components, here.components)
    assert jail._process is first
    jail.stop()
