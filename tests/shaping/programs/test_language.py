"""What programs mean: hand-computed cases, NumPy and torch alike, errors that help, and the prompt's text."""

import math

import numpy as np
import pytest
import torch

from cairn.shaping.programs import Input, Limits, ProgramError, compile_program, kernels_numpy, kernels_torch
from cairn.shaping.programs.describe import describe
from cairn.shaping.programs.operations import OPERATIONS

INPUTS = (
    Input("x", "f"), Input("y", "f"), Input("v", "f", (3,)), Input("w", "f", (3,)), Input("n", "i"),
    Input("p", "i", (2,)), Input("on", "b"), Input("m", "f", (2, 3)),
)  # fmt: skip
X = np.array([-2.0, 0.5, 3.0], np.float32)
Y = np.array([1.0, 2.0, -1.0], np.float32)
V = np.array([[1, 2, 2], [0, -1, 0], [3, 4, 0]], np.float32)
W = np.array([[1, 0, 0], [2, 2, 2], [-1, 1, 5]], np.float32)
N = np.array([0, 5, -7])
P = np.array([[1, 2], [3, 3], [0, 4]])
ON = np.array([True, False, True])
M = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
BATCH = {"x": X, "y": Y, "v": V, "w": W, "n": N, "p": P, "on": ON, "m": M}


def both(text: str) -> tuple[list[float], dict[str, list[float]]]:
    """Run on both back ends, which agree; a line without def is an expression."""
    if "def " not in text:
        text = f"def reward(x, y, v, w, n, p, on, m):\n    return {text}\n"
    tape = compile_program(text, INPUTS)
    one = tape.numpy(BATCH)
    other = tape.torch({name: torch.from_numpy(array) for name, array in BATCH.items()})
    for a, b in zip((one.reward, *one.components), (other.reward, *other.components)):
        assert a.dtype == np.float32 and b.dtype == torch.float32 and a.shape == tuple(b.shape) == (3,)
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-6)
    return one.reward.tolist(), {name: part.tolist() for name, part in zip(tape.names, one.components)}


CASES: list[tuple[str, list[float]]] = [
    ("x + y", [-1, 2.5, 2]),
    ("1 - x", [3, 0.5, -2]),
    ("x - 1", [-3, -0.5, 2]),
    ("2 * x / y", [-4, 0.5, -6]),
    ("1 / y", [1, 0.5, -1]),
    ("6 / y", [6, 3, -6]),
    ("x ** 2", [4, 0.25, 9]),
    ("2 ** y", [2, 4, 0.5]),
    ("-x ** 2", [-4, -0.25, -9]),
    ("2 ** -1 * x", [-1, 0.25, 1.5]),
    ("n // 2", [0, 2, -4]),
    ("n % 3", [0, 2, 2]),
    ("x // 1.0", [-2, 0, 3]),
    ("x % 2.0", [0, 0.5, 1]),
    ("n / 2", [0, 2.5, -3.5]),
    ("n * 3 + 1", [1, 16, -20]),
    ("n + 0.5", [0.5, 5.5, -6.5]),
    ("on + on", [2, 0, 2]),
    ("on * x", [-2, 0, 3]),
    ("-on", [-1, 0, -1]),
    ("x < y", [1, 1, 0]),
    ("1 < y", [0, 1, 0]),
    ("2 >= y", [1, 1, 1]),
    ("-1 <= x < 3", [0, 1, 0]),
    ("n == 5", [0, 1, 0]),
    ("n != 5.0", [1, 0, 1]),
    ("on and x > 0", [0, 0, 1]),
    ("on or x > 0", [1, 1, 1]),
    ("not on", [0, 1, 0]),
    ("~on & (y > 0)", [0, 1, 0]),
    ("on ^ (y > 0)", [0, 1, 1]),
    ("on and True", [1, 0, 1]),
    ("on or True", [1, 1, 1]),
    ("x if on else y", [-2, 2, 3]),
    ("1 if on else 0", [1, 0, 1]),
    ("1.0 if True else x", [1, 1, 1]),
    ("where(on, x, 7)", [-2, 7, 3]),
    ("torch.where(v > 1, 1.0, 0.0).sum(dim=-1)", [2, 0, 2]),
    ("abs(x) + np.sign(x) + relu(x)", [1, 2, 7]),
    ("exp(log(abs(x)))", [2, 0.5, 3]),
    ("sqrt(square(x)) + math.sqrt(4)", [4, 2.5, 5]),
    ("sin(x) ** 2 + cos(x) ** 2", [1, 1, 1]),
    ("tanh(x) - sinh(x) / cosh(x)", [0, 0, 0]),
    ("tan(arctan(x))", [-2, 0.5, 3]),
    ("sigmoid(x) - 1 / (1 + exp(-x))", [0, 0, 0]),
    ("softplus(y) - log1p(exp(y))", [0, 0, 0]),
    ("expm1(y) - exp(y)", [-1, -1, -1]),
    ("floor(x) + ceil(x)", [-4, 1, 6]),
    ("round(x)", [-2, 0, 3]),
    ("pi - math.pi", []),
    ("math.pi * on", [math.pi, 0, math.pi]),
    ("reciprocal(y)", [1, 0.5, -1]),
    ("atan2(y, y)", [math.pi / 4, math.pi / 4, -3 * math.pi / 4]),
    ("hypot(3.0 * y, 4.0 * y)", [5, 10, 5]),
    ("clip(x, -1, 1)", [-1, 0.5, 1]),
    ("torch.clamp(x, min=0)", [0, 0.5, 3]),
    ("x.clamp(max=y)", [-2, 0.5, -1]),
    ("np.clip(x, a_min=0, a_max=1)", [0, 0.5, 1]),
    ("min(x, y)", [-2, 0.5, -1]),
    ("max(x, y, 1)", [1, 2, 3]),
    ("max(x, 0)", [0, 0.5, 3]),
    ("max(0, 0.5) * on", [0.5, 0, 0.5]),
    ("minimum(x, 1.0)", [-2, 0.5, 1]),
    ("amax(v, dim=-1)", [2, 0, 4]),
    ("torch.max(v, dim=1)", []),
    ("v.max(1)", []),
    ("v.amin(dim=1)", [1, -1, 0]),
    ("sum(v, dim=-1)", [5, -1, 7]),
    ("v.mean(axis=1) * 3", [5, -1, 7]),
    ("prod(v, dim=1)", [4, 0, 0]),
    ("prod(m, dim=(1, 2)) * 0 + m.sum(dim=(1, 2))", [15, 51, 87]),
    ("sum(m, dim=1)[:, 2]", [7, 19, 31]),
    ("m.sum(dim=-1, keepdim=True)[:, 1, 0]", [12, 30, 48]),
    ("all(v >= 0, dim=-1)", [1, 0, 1]),
    ("(v < 0).any(dim=-1)", [0, 1, 0]),
    ("norm(v, dim=-1)", [3, 1, 5]),
    ("np.linalg.norm(v, axis=-1, ord=1)", [5, 1, 7]),
    ("torch.norm(p.float(), p=2, dim=-1) ** 2", [5, 18, 16]),
    ("dot(v, w)", [1, -2, 1]),
    ("distance(v, w) ** 2", [8, 17, 50]),
    ("cosine_similarity(v, v)", [1, 1, 1]),
    ("v[:, 0]", [1, 0, 3]),
    ("v[:, -1]", [2, 0, 0]),
    ("v[..., 1]", [2, -1, 4]),
    ("v[:, 1:].sum(dim=1)", [4, -1, 4]),
    ("v[:, ::2].sum(dim=1)", [3, 0, 3]),
    ("v[:, :-1][:, 1]", [2, -1, 4]),
    ("m[:, 1][:, 2]", [5, 11, 17]),
    ("m[:, 1, 2]", [5, 11, 17]),
    ("m[..., 0, :].sum(dim=-1)", [3, 21, 39]),
    ("(x[:, None] * v).sum(dim=1)", [-10, -0.5, 21]),
    ("(v - tensor([1.0, 2.0, 3.0])).sum(dim=1)", [-1, -7, 1]),
    ("(v * [1, 0, 2]).sum(dim=1)", [5, 0, 3]),
    ("stack([x, y], dim=-1)[:, 1]", [1, 2, -1]),
    ("torch.stack((x, y, 1.0), dim=1).sum(dim=1)", [0, 3.5, 3]),
    ("cat([v, w], dim=-1)[:, 3]", [1, 2, -1]),
    ("torch.cat([v, x[:, None]], dim=1).sum(dim=-1)", [3, -0.5, 10]),
    ("unsqueeze(x, -1).squeeze(-1)", [-2, 0.5, 3]),
    ("zeros_like(x) + ones_like(x) * 2 + full_like(x, 3)", [5, 5, 5]),
    ("zeros(x.shape[0]) + torch.ones(len(x), device=x.device)", [1, 1, 1]),
    ("torch.zeros((x.shape[0], 4), dtype=torch.float32).sum(dim=1)", [0, 0, 0]),
    ("v.shape[1] + v.ndim + len([1, 2]) * on", [7, 5, 7]),
    ("one_hot(p[:, 0], 4)[:, 3]", [0, 1, 0]),
    ("int(x)", [-2, 0, 3]),
    ("x.long() + n.float()", [-2, 5, -4]),
    ("x.to(torch.int64) + bool(x)", [-1, 1, 4]),
    ("x.clone().detach() + float(on)", [-1, 0.5, 4]),
    ("isclose(x, 0.5)", [0, 1, 0]),
    ("isfinite(x) and not isnan(x)", [1, 1, 1]),
    ("logical_and(on, x > 0) + logical_or(on, on) + logical_not(on) + logical_xor(on, on)", [1, 1, 2]),
    ("less(x, y) + torch.ge(x, y)", [1, 1, 1]),
    ("sum([x, y, 1])", [0, 3.5, 3]),
    ("pow(x, 2)", [4, 0.25, 9]),
    ("[x, y][1]", [1, 2, -1]),
    ("3", [3, 3, 3]),
    ("tensor([1.0, 2.0])[1]", [2, 2, 2]),
    ("1e-3 * 1000 * .5 * 2.", [1, 1, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [c for c in CASES if c[1]])
def test_expressions_by_hand(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(both(text)[0], expected, rtol=1e-5, atol=1e-5)


def test_max_takes_an_axis_or_another_value() -> None:
    assert both("v.max(1)")[0] == both("torch.max(v, dim=1)")[0] == [2, 0, 4]


def test_every_operation_is_in_a_case_and_in_both_back_ends() -> None:
    shown = " ".join(text for text, _ in CASES)
    unasked = [name for name, op in OPERATIONS.items() if not any(f"{n}(" in shown for n in (name, *op.aliases))]
    assert set(unasked) <= {"arcsin", "arccos", "greater", "less_equal", "equal", "not_equal", "maximum"}
    assert both("arcsin(y * 0) + arccos(y * 0 + 1)")[0] == [0, 0, 0]
    assert both("greater(x, y) + less_equal(x, y) + equal(x, x) + not_equal(x, y) + maximum(x, y) * 0")[0] == [3, 3, 3]
    assert kernels_numpy.PLAIN.keys() == kernels_torch.PLAIN.keys()
    assert kernels_numpy.MADE.keys() == kernels_torch.MADE.keys()


def test_branches_over_rows_are_taken_row_by_row() -> None:
    text = """
def reward(x, on, v):
    best = 0.0
    kind = (1.0, x)
    parts = {"a": x, "b": 0}
    if on:
        best = x * 10
        kind = (2.0, x + 1)
        parts["a"] = 5
        gone = 1
    elif x > 0.4:
        best = 7
        u = v
    else:
        best = -1.0
    a, b = kind
    return best + a + b, parts
"""
    reward, parts = both(text)
    # Rows: on with x = -2, off with x = 0.5, on with x = 3.
    np.testing.assert_allclose(reward, [-20 + 2 - 1, 7 + 1 + 0.5, 30 + 2 + 4])
    assert parts == {"a": [5, 0.5, 5], "b": [0, 0, 0]}


def test_early_returns_leave_the_rest_to_the_others() -> None:
    text = """
def reward(x, on):
    if on:
        if x > 0:
            return 1, {"s": 1}
        else:
            return 2, {"s": 2}
    y = x + 1
    if y > 100:
        return 3, {"s": 3}
    return y, {"s": 4}
"""
    assert both(text) == ([2, 1.5, 1], {"s": [2, 4, 1]})


def test_branches_over_arrays_of_one_row_widen_the_condition() -> None:
    text = "def reward(on, v, w):\n    u = v\n    if on:\n        u = w\n    return u[:, 2]\n"
    assert both(text)[0] == [0, 0, 5]


def test_loops_helpers_constants_and_defaults() -> None:
    text = '''
"""A doc."""
GAINS = (1.0, 0.5, 0.25)
SCALE = 2 ** 3

def part(value, gain=GAINS[0], power=1):
    """Another."""
    return gain * value ** power

def reward(v, x):
    total = 0.0
    for i in range(3):
        total += part(v[:, i], GAINS[i])
    for i in range(4, 0, -2):
        total -= i
    for g in GAINS:
        total += part(g, power=2) * SCALE
    return total + part(x)
'''
    # v . (1, .5, .25) - 6 + 8 (1 + .25 + .0625) + x
    np.testing.assert_allclose(both(text)[0], [2.5 - 6 + 10.5 - 2, -0.5 - 6 + 10.5 + 0.5, 5 - 6 + 10.5 + 3])


def test_numbers_keep_python_meaning() -> None:
    assert (
        both("7 // 2 + 7 % 4 + 2 ** 3 + (1 if 3 > 2 else 0) + abs(-2) + round(2.6) + int(3.7) + min(4, 5)")[0][0] == 27
    )
    assert both("(True + True) * 1.0")[0] == [2, 2, 2]
    assert both("1 + 2 * 3 - 4 / 2 ** 2")[0] == [6, 6, 6]
    assert both("-2 ** 2")[0] == [-4, -4, -4]
    assert both("not 1 > 2")[0] == [1, 1, 1]
    assert both("2 ** 3 ** 0")[0] == [2, 2, 2]
    assert both("10 - 4 - 3")[0] == [3, 3, 3]


def test_what_is_computed_twice_is_computed_once() -> None:
    tape = compile_program(
        "def r(x):\n    return exp(x) + exp(x) + exp(x), {'a': exp(x), 'b': sin(x) * 0 + exp(x)}", INPUTS
    )
    assert [i.op for i, _, _ in tape.instructions].count("exp") == 1


def test_what_is_not_needed_is_not_computed_nor_asked_for() -> None:
    tape = compile_program("def r(x, v):\n    y = norm(v, dim=-1)\n    return x * 2\n", INPUTS)
    assert [i.op for i, _, _ in tape.instructions] == ["mul"] and [n for n, _ in tape.inputs] == ["x"]


def test_large_batches_go_in_pieces() -> None:
    tape = compile_program(
        "def r(v):\n    return sum(v[:, :, None] * v[:, None, :], dim=(1, 2)), {'a': v[:, 0]}", INPUTS
    )
    rng = np.random.default_rng(0)
    v = rng.random((1000, 3)).astype(np.float32)
    whole = tape.numpy({"v": v})
    type(tape).rows.fget  # noqa: B018
    small = compile_program(
        "def r(v):\n    return sum(v[:, :, None] * v[:, None, :], dim=(1, 2)), {'a': v[:, 0]}", INPUTS
    )
    object.__setattr__(small, "live", 1 << 20)
    assert small.rows == 16
    pieces = small.numpy({"v": v})
    torch_pieces = small.torch({"v": torch.from_numpy(v)})
    np.testing.assert_allclose(pieces.reward, whole.reward, rtol=1e-6)
    np.testing.assert_allclose(torch_pieces.components[0].numpy(), whole.components[0])


def test_gradients_flow_in_this_process() -> None:
    tape = compile_program("def r(x, y):\n    return x ** 2 * y\n", INPUTS)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    tape.torch({"x": x, "y": torch.tensor([3.0, 4.0])}).reward.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [6.0, 16.0]


def test_a_reward_is_never_the_input_itself() -> None:
    for text in ("x", "v[:, 0]", "x if True else y", "squeeze(v[:, :1], 1)"):
        tape = compile_program(f"def r(x, y, v):\n    return {text}\n", INPUTS)
        assert not any(np.shares_memory(tape.numpy(BATCH).reward, array) for array in BATCH.values())


HINTS = [
    ("sum(v)", "say dim=-1"),
    ("sum(x)", "one number for each environment already"),
    ("v[0]", "x[:, 0]"),
    ("v[on]", "where"),
    ("x + v", "[:, None]"),
    ("v", "sum or index the last axis"),
    ("norm(v, dim=0)", "is the batch"),
    ("torch.atan(x, out=y)", "has no argument 'out'"),
    ("torch.argmax(v, dim=1)", "amax"),
    ("v[:, 7]", "that axis has 3"),
    ("x and y", "compare it"),
    ("z + 1", "there is nothing called 'z'"),
    ("exp + 1", "is called"),
    ("x.item()", "has no 'item'"),
    ("torch.rand(3)", "there is no operation 'torch.rand'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "hint"), HINTS)
def test_errors_say_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ProgramError) as caught:
        both(text)
    assert hint in str(caught.value) and caught.value.line == 2


def test_the_prompt_is_written_from_the_tables() -> None:
    text = describe(INPUTS)
    for operation in OPERATIONS.values():
        assert f"- {operation.signature}: {operation.doc}" in text
        assert all(alias in text for alias in operation.aliases)
    for i in INPUTS:
        assert f"- {i.name}: " in text
    assert "float32 [B, 2, 3]" in text and "int64 [B, 2]" in text and "bool [B]" in text
    assert str(Limits().components) in text


def test_what_the_prompt_promises_compiles() -> None:
    """Each operation that the prompt lists can be called as it is listed."""
    values = {"x": "x", "a": "x", "b": "y", "dim": "-1", "condition": "on", "yes": "x", "no": "y", "exponent": "2",
              "arrays": "[x, y]", "size": "x.shape[0]", "dtype": "torch.float32", "value": "2.0", "count": "4",
              "more": "x, y", "device": "x.device"}  # fmt: skip
    for operation in OPERATIONS.values():
        args = [values[name] for name, default in operation.parameters if type(default) is object or name == "more"]
        if operation.group in ("over an axis", "shapes") and operation.parameters[0][0] in ("x", "a"):
            args[0] = "v" if args[0] == "x" else args[0]
            if len(args) > 1 and operation.parameters[1][0] == "b":
                args = ["v", "w"]
        if operation.group == "true or false" and "logical" in operation.name:
            args = ["on"] * len(args)
        call = f"{operation.name}({', '.join(args)})"
        if operation.group == "over an axis" and operation.parameters[0][0] == "x":
            call = call[:-1] + (", dim=-1)" if "on" not in call else ")")
        if operation.name in ("any", "all"):
            call = f"{operation.name}(v > 0, dim=-1)"
        replacements = {"one_hot": "one_hot(n, 4)", "squeeze": "squeeze(v[:, :1], -1)", "cat": "cat([v, w])"}
        call = replacements.get(operation.name, call)
        compile_program(f"def reward(x, y, v, w, n, on):\n    z = {call}\n    return x\n", INPUTS)
