"""Every program of the attack corpus ends where it should: refused by its layer, or run to the end and harmless."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from cairn.shaping.programs import Jail, ProgramError, compile_program, limits

from .corpus import INPUTS, corpus, jailed_outcome, outcome

ATTACKS = corpus()
FAMILIES = sorted({a.family for a in ATTACKS})


def test_the_corpus_is_large_and_has_every_family() -> None:
    assert len(ATTACKS) >= 150 and len(FAMILIES) == 14
    hostile = [a for a in ATTACKS if a.expected != "runs"]
    assert len(hostile) >= 400
    assert len({(a.family, a.title) for a in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attack_ends_where_it_should(family: str) -> None:
    wrong = [
        (a.title, a.expected, got) for a in ATTACKS if a.family == family and (got := outcome(a.text)) != a.expected
    ]
    assert not wrong


def test_in_the_jail_it_is_the_same() -> None:
    jail = Jail(size=1 << 22)
    jail.start()
    first = jail._process
    wrong = [(a.title, a.expected, got) for a in ATTACKS if (got := jailed_outcome(jail, a.text)) != a.expected]
    assert not wrong
    # No program made the worker fail, die or hang: it is the one that was started.
    assert jail._process is first and set(jail.outcomes) == {"ok", "refused"}
    jail.stop()


def test_refusals_are_short_and_printable() -> None:
    """They go back into prompts and terminals, and part of what they show is the attacker's."""
    for attack in ATTACKS:
        try:
            compile_program(attack.text, INPUTS)
        except ProgramError as error:
            assert re.fullmatch(r"[\n -~]*", str(error)) and len(str(error)) < 1200, attack.title
            assert error.layer in ("text", "syntax", "types", "budget")


def test_refusals_mark_the_place() -> None:
    with pytest.raises(ProgramError) as caught:
        compile_program("def reward(distance):\n    x = distance\n    return x + exq(distance)\n", INPUTS)
    error = caught.value
    assert (error.line, error.column) == (3, 19) and error.layer == "types"
    assert "there is no operation 'exq'" in str(error) and "exp" in str(error)
    shown, mark = str(error).split("\n")[1:]
    assert shown[mark.index("^")] == "(" and "return x" in shown


def test_nothing_large_is_made_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are refused allocate nothing: no instruction of theirs is ever run."""
    from cairn.shaping.programs import tape

    ran: list[str] = []
    monkeypatch.setattr(tape.Tape, "numpy", lambda *a: ran.append("numpy"))
    monkeypatch.setattr(tape.Tape, "_bind", lambda *a: ran.append("bind"))
    for attack in ATTACKS:
        if attack.expected in ("text", "syntax", "types", "budget"):
            with pytest.raises(ProgramError):
                compile_program(attack.text, INPUTS)
    assert not ran


# Each limit, and each rule of the language, is needed: without it something of the corpus ends elsewhere.

LIMITS = ["characters", "line", "digits", "name", "tokens", "depth", "blocks", "trips", "steps", "instructions",
          "axes", "elements", "work", "integer", "components", "parameters", "calls", "live", "nesting"]  # fmt: skip


BOUNDED = [a for a in ATTACKS if a.expected in ("budget", "text")]


def _refusal(text: str, with_limits: limits.Limits) -> str:
    """What it is refused for, without the numbers of the limits."""
    try:
        compile_program(text, INPUTS, with_limits)
    except ProgramError as error:
        return re.sub(r"[0-9]+", "#", str(error))
    return ""


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    return {a.title: _refusal(a.text, limits.LIMITS) for a in BOUNDED}


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_missed_when_it_is_gone(name: str, refusals: dict[str, str]) -> None:
    without = replace(limits.LIMITS, **{name: {"trips": 10**4, "steps": 10**6}.get(name, 10**7)})
    ordered = sorted(BOUNDED, key=lambda a: (len(a.text) > 3000, a.title.startswith("components that")))
    found = any(refusals[a.title] != _refusal(a.text, without) for a in ordered)
    assert found, f"nothing in the corpus needs the limit {name!r}"


def test_the_outcomes_are_spread_over_the_layers() -> None:
    counts = Counter(a.expected.partition(":")[0] for a in ATTACKS)
    assert min(counts[layer] for layer in ("text", "syntax", "types", "budget", "behaviour")) >= 10
