"""Small networks inside the kernels of ``compiled.py`` and ``compiled_curling.py``."""

# Warp's decorators have no types, and to it float(0.0) is a variable that a loop may change and 0.0 is not.
# mypy: disable-error-code="untyped-decorator,no-any-return"
# ruff: noqa: UP018

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def outputs(
    lane: int, genomes: wp.array2d[float], sizes: wp.array[int], per_unit: int,
    work: wp.array2d[float], inputs: int, width: int,
) -> int:  # fmt: skip
    """Run a lane's network on what lies at ``inputs`` in its work; says where its outputs lie."""
    at = int(0)
    source = int(inputs)
    target = int(inputs + width)
    for layer in range(sizes.shape[0] - 1):
        wide = sizes[layer + 1]
        for o in range(wide):
            work[lane, target + o] = 0.0
        for k in range(sizes[layer]):
            seen = work[lane, source + k]
            for o in range(wide):
                work[lane, target + o] = work[lane, target + o] + seen * genomes[lane, at + o]
            at += wide
        for o in range(wide):
            bias = genomes[lane, at + o * per_unit]
            work[lane, target + o] = wp.tanh((work[lane, target + o] + bias) * 0.5)
        at += 1 + (wide - 1) * per_unit
        other = int(source)
        source = int(target)
        target = int(other)
    return source


@wp.func
def action(out: float) -> float:
    """An output as an action between -1 and 1, in the roundings of ``policies.py``."""
    return wp.clamp(-1.0 + (out + 1.0), -1.0, 1.0)
