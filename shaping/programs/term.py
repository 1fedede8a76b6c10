"""A reward program as a term: ``Task() + 0.1 * Program(text)``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..reward import RewardError
from ..stretch import Stretch
from ..term import Pure, Source, Term, World
from .checks import Behaviour, BehaviourError, check_program
from .host import JailError
from .inputs import Input, gather, inputs_of
from .limits import ProgramError
from .runners import InProcess, Runner, jailed
from .tape import Output

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
FOLDER = "rewards"
_ROWS = 256  # of the first experience, on which the behaviour is checked


class _Compiled:
    """A program where it runs; a copy of a term compiles anew (and finds the same worker)."""

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.made_for: tuple[str, tuple[tuple[str, str, tuple[int, ...]], ...]] | None = None
        self.behaviour: Behaviour | None = None
        self.sums: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Compiled":
        return _Compiled()

    def __reduce__(self) -> tuple[type["_Compiled"], tuple[()]]:
        return _Compiled, ()


class Program(Pure):
    """A reward written as a program, by a language model or by hand, over an environment's facts and columns.

    Its text is compiled by Cairn (see ``compile_program``: a closed part of Python, batched) and runs in a worker
    process in a kernel jail, as anything that a model wrote should; ``Program.in_process`` runs what you wrote
    yourself, on the batch's own device. It is checked on the first experience, before anything is trained on it:
    finite, float32, one number for each environment, the same when asked again, and nothing of one environment in
    another's. Each component that it returns is logged as ``reward/<name>/<component>``.

    The text is part of the term's state, and so of every checkpoint; ``program("approach")`` in a text expression takes
    it from there, or from ``rewards/approach.py`` in the current folder.

    Args:
        program: The text; or a plain name, under which the text is found as said above.
        name: What logs and expressions call it.
        timeout: Seconds that a batch may take; then the worker is killed, tried once more, and the run stops.
        require: "kernel" refuses to run where the kernel gives no Landlock or seccomp; "process" takes what there is.
        bound: Largest size of a reward; what is larger is a fault, as is what is not finite.
        faults: "raise" stops the run at a fault (nothing is trained on it); "zero" pays 0 for such rows and counts them
            in ``reward/<name>/faults``.
        combine: "sum" takes the reward as the program returns it; "sign" takes the components ``sparse`` and ``dense``
            alone, as ``sign(sparse) + 0.1 * sign(dense)``: whatever the program's scales, progress is worth a tenth of
            an achievement (Li et al., "Auto MC-Reward: Automated Dense Reward Design with Large Language Models for
            Minecraft", 2024, section 3.2).

    Raises:
        ValueError: A setting is none.
        ProgramError: (at the first experience) The text is no program; the place is marked.
        BehaviourError: (at the first experience) It does not behave as a reward must.
        RewardError: (later) It gave a fault, or its worker hung or died twice.
    """

    saved = ("source",)
    _jailed = True

    def __init__(
        self, program: str, name: str = "", timeout: float = 10.0, require: str = "process", bound: float = 1e4,
        faults: str = "raise", combine: str = "sum",
    ) -> None:  # fmt: skip
        if not isinstance(program, str):
            raise TypeError(f"a reward program is text, and not {type(program).__name__}")
        named = bool(_NAME.fullmatch(program))
        if name and not _NAME.fullmatch(name):
            raise ValueError(f"Program(name={name!r}): letters, digits, _ and - alone, at most 64")
        if require not in ("process", "kernel") or faults not in ("raise", "zero"):
            raise ValueError("Program: require is 'process' or 'kernel', and faults 'raise' or 'zero'")
        if combine not in ("sum", "sign"):
            raise ValueError("Program: combine is 'sum' or 'sign'")
        if not (timeout > 0 and bound > 0):
            raise ValueError(f"Program(timeout={timeout}, bound={bound}): both are above 0")
        self.source = "" if named else program
        self.called = name or (program if named else "program")
        self.timeout, self.require, self.bound, self.faults = float(timeout), require, float(bound), faults
        self.combine = combine
        self._compiled = _Compiled()

    @classmethod
    def in_process(
        cls, program: str, name: str = "", bound: float = 1e4, faults: str = "raise", combine: str = "sum"
    ) -> "Program":
        """The same without a jail, for programs that you wrote or read: on the batch's device, and differentiable.

        It cannot be asked for in text, so that no file turns the jail off: pass it again as ``reward=`` to resume.
        """
        term = cls(program, name, bound=bound, faults=faults, combine=combine)
        term._jailed = False
        return term

    @property
    def name(self) -> str:
        """What the logs call it."""
        return self.called

    @property
    def text(self) -> str | None:
        """``program("name", ...)``; the program itself is in the state. None without a jail."""
        if not self._jailed:
            return None
        plain = {"timeout": 10.0, "require": "process", "bound": 1e4, "faults": "raise", "combine": "sum"}
        given = [(key, getattr(self, key)) for key, default in plain.items() if getattr(self, key) != default]
        settings = "".join(f', {k}="{v}"' if isinstance(v, str) else f", {k}={v!r}" for k, v in given)
        return f'program("{self.called}"{settings})'

    def bind(self, world: World) -> None:
        """Look for the text of a program that is known by name."""
        path = Path(FOLDER, f"{self.called}.py")
        if not self.source and path.is_file():
            with path.open(encoding="utf-8") as file:
                self.source = file.read(1 << 17)

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back the text."""
        if not isinstance(state.get("source"), str):
            raise ValueError(f"the saved state of {self.called} holds no program")
        super().load(state)

    def compile(self, inputs: tuple[Input, ...]) -> tuple[str, ...]:
        """Compile for these inputs; returns the components' names.

        Raises:
            ProgramError: The text is no program.
            JailError: There is no worker, or it failed.
        """
        made_for = (self.source, tuple((i.name, i.kind, i.shape) for i in inputs))
        held = self._compiled
        if held.runner is None or held.made_for != made_for:
            if not self.source:
                raise ProgramError(
                    "text",
                    f"there is no program called {self.called!r}: write {FOLDER}/{self.called}.py, or give its text",
                )
            if self._jailed:
                held.runner = jailed(self.source, inputs, self.timeout, self.require)
            else:
                held.runner = InProcess(self.source, inputs)
            held.made_for, held.behaviour, held.sums = made_for, None, None
            lacking = [n for n in ("sparse", "dense") if self.combine == "sign" and n not in held.runner.names]
            if lacking:
                held.runner = None
                raise ProgramError(
                    "types",
                    f"combined by sign, a program returns parts called 'sparse' and 'dense': {lacking[0]!r} is missing",
                )
        return held.runner.names

    def check(self, x: Stretch) -> Behaviour:
        """Compile, and ask about the valid rows of some experience whether it behaves as a reward must.

        Raises:
            ProgramError: The text is no program.
            BehaviourError: It does not behave; the message says how.
            JailError: Its worker failed.
        """
        self.compile(inputs_of(x))
        runner = self._compiled.runner
        assert runner is not None
        flat = x.flat()
        rows = flat.valid.nonzero()[:, 0]
        if len(rows) > _ROWS:  # spread over all of it
            rows = rows[torch.linspace(0, len(rows) - 1, _ROWS, device=rows.device).long()]
        batch = {name: t.detach().cpu().numpy() for name, t in gather(flat[rows], runner.reads).items()}

        def run(part: Mapping[str, Any]) -> Output:
            reward, parts = runner({name: torch.from_numpy(a) for name, a in part.items()})
            return Output(reward.detach().numpy(), tuple(parts.detach().numpy()))

        self._compiled.behaviour = check_program(run, batch, runner.names, self.bound)
        return self._compiled.behaviour

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The program's reward of each row."""
        if x.shape != x.rows:
            raise ValueError(f"{self.called}: reward programs are for one agent; a team's have no form yet")
        self.compile(inputs_of(x))
        held, valid = self._compiled, x.valid.reshape(-1)
        assert held.runner is not None
        try:
            if held.behaviour is None:
                if not bool(valid.any()):
                    return torch.zeros(x.shape, device=x.device)
                self.check(x)
            value, parts = held.runner(gather(x, held.runner.reads))
        except (BehaviourError, JailError) as error:
            raise RewardError(f"the program {self.called!r} is not trained on: {error}") from error
        if self.combine == "sign":
            value = self._signs(parts)
        everything = torch.cat([value[None], parts])
        good = (torch.isfinite(everything) & (everything.abs() <= self.bound)).all(0) | ~valid
        if self.faults == "raise":
            if not bool(good.all()):
                self._fault(x, value, good)
        else:
            value = torch.where(good, value, 0.0)
        self._count(parts, valid & good, valid & ~good)
        return value.reshape(x.shape)

    def _signs(self, parts: Tensor) -> Tensor:
        assert self._compiled.runner is not None
        names = self._compiled.runner.names
        return torch.sign(parts[names.index("sparse")]) + 0.1 * torch.sign(parts[names.index("dense")])

    def components(self, x: Stretch) -> dict[str, Tensor]:
        """Each component of each row, as ``score`` gives the reward. Nothing is checked or counted.

        Raises:
            ProgramError: The text is no program.
            JailError: Its worker failed.
        """
        names = self.compile(inputs_of(x))
        assert self._compiled.runner is not None
        _, parts = self._compiled.runner(gather(x, self._compiled.runner.reads))
        return {name: part.reshape(x.shape) for name, part in zip(names, parts)}

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that it takes; none before it is compiled."""
        return self._compiled.runner.reads if self._compiled.runner is not None else ()

    def _fault(self, x: Stretch, value: Tensor, good: Tensor) -> None:
        row = int((~good).nonzero()[0, 0])
        flat = x.flat()
        self._compiled.runner.outcomes["fault"] += 1  # type: ignore[union-attr]
        raise RewardError(
            f"the program {self.called!r} gave {float(value[row])}, or a component did (the bound is {self.bound:g}), "
            f"in environment {int(flat.lane[row])}, episode {int(flat.episode[row])}, step {int(flat.t[row])}; nothing "
            'was trained on it. Guard divisions, logarithms and roots, or count such rows as 0: faults="zero"'
        )

    def _count(self, parts: Tensor, good: Tensor, bad: Tensor) -> None:
        """Add up what is logged: sums of the components, rows, faults. No value depends on it."""
        sums = torch.where(good, parts.detach(), 0.0).sum(1)
        seen = torch.cat([sums, good.sum()[None], bad.sum()[None]])
        held = self._compiled
        held.sums = seen if held.sums is None else held.sums + seen

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn nothing; log each component's mean, and how many rows were faults."""
        held = self._compiled
        if held.sums is None or held.runner is None:
            return {}
        rows = (held.sums[-2]).clamp(min=1)
        logs = {name: held.sums[k] / rows for k, name in enumerate(held.runner.names)}
        faults, held.sums = held.sums[-1], None
        return {**logs, "faults": faults}

    @property
    def outcomes(self) -> dict[str, int]:
        """How often what happened: "ok", "fault", "hung", "died" and so on."""
        return dict(self._compiled.runner.outcomes) if self._compiled.runner is not None else {}

    @property
    def behaviour(self) -> Behaviour | None:
        """What the check saw; None before the first experience."""
        return self._compiled.behaviour

    @classmethod
    def examples(cls) -> list[Term]:
        """In the jail, and on the batch's own device."""
        text = (
            "def reward(position, next_position, carrying, next_distance, terminated):\n"
            "    moved = norm(next_position - position, dim=-1)\n"
            "    near = exp(-next_distance / 4.0)\n"
            "    if carrying:\n"
            "        near = near * 2\n"
            "    total = near + 0.1 * moved\n"
            "    if terminated:\n"
            "        total = total + 1.0\n"
            '    return total, {"near": near, "moved": moved}\n'
        )
        return [cls(text, name="walked"), cls.in_process(text)]
