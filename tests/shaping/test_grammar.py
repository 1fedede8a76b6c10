import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.shaping import EpisodicCount, Gated, RolloutSeat, Task, as_reward, linear, parse
from cairn.shaping.grammar import GrammarError
from cairn.shaping.laws import walk

TEXTS = [
    "task",
    "task + 0.01*episodic_count",
    'task + 0.01*episodic_count(key="position")',
    'episodic_count(key=("position", "carrying"), mode="first")',
    'episodic_count(("position",))',
    "0.5*(task + 1.0)*episodic_count.clip(0, 0.5)",
    "-task - -2*task/4 + 3",
    "task.gate(episodic_count, 0.5) + gated(0.1*episodic_count - 0.01, 0.5, pay=\"end\")",
    'task.into("curiosity", gamma=0.99, episodic=false).named("b") + task.clip(none, 1).normalise(true)',
    "linear(1, 0, 1e6)*task + episodic_count.anneal(\"cosine\", 1, 0.5, 1000)*2",
    "gated(task, outcome=task + episodic_count)",
    "Task() + EpisodicCount()",
    "1e-3 * task",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(text: str) -> None:
    term = parse(text)
    again = term.text
    assert again is not None and parse(again).text == again
    world, x = walk(0)
    one, other = (RolloutSeat(as_reward(t), world)(x, 10)[0] for t in (term, parse(again)))
    assert torch.equal(one, other)


def test_python_says_the_same() -> None:
    pairs = [
        (Task() + 0.01 * EpisodicCount(), "task + 0.01*episodic_count"),
        (Task() - EpisodicCount(key="position", mode="first"), 'task - episodic_count(key="position", mode="first")'),
        (Gated(Task() - 0.5, 1.0), "gated(task - 0.5, 1.0)"),
        (linear(1, 0, 100) * Task(), "linear(1, 0, 100)*task"),
        (Task() * (Task() + 1), "task*(task + 1.0)"),
        (Task() - 2 * (Task() * Task() - 1), "task - 2.0*(task*task - 1.0)"),
    ]
    for term, text in pairs:
        assert term.text == text and parse(text).text == text


BAD = [
    ("task + episodc_count", "did you mean 'episodic_count'", 8),
    ("task + 0.1 episodic_count", "should end here", 12),
    ("task + (task", r"'\)' should stand here", 13),
    ("task)", "should end here", 5),
    ("", "a term or a number should stand here, and not the end", 1),
    ("task +", "and not the end", 7),
    ("task + * task", r"not '\*'", 8),
    ("1e999*task", "too large", 1),
    ("1e200*1e200*task", "not finite", 6),
    ("task/0", "does not work", 5),
    ("task/task", "does not work", 5),
    ("episodic_count(kay=\"a\")", "did you mean 'key'", 1),
    ("episodic_count(key=\"a\", key=\"b\")", "given twice", 25),
    ("episodic_count(key=\"a\", \"b\")", "need names too", 25),
    ("episodic_count(mode=\"log\")", "'sqrt' or 'first'", 1),
    ("episodic_count(key=\"../secret\")", "letters, digits", 20),
    ("episodic_count(key=\"/etc/passwd\")", "letters, digits", 20),
    ("episodic_count(key=\"os:system\")", "letters, digits", 20),
    ("episodic_count(key=\"open", "not closed", 20),
    ("task.text", "no term has 'text'", 6),
    ("task.__class__()", "no term has '__class__'", 6),
    ("task.clip(1, 0)", "above the upper", 6),
    ("task.clip", "'\\(' should stand here", 10),
    ("2.clip(0, 1)", "should end here", 3),
    ("task; task", "';' has no meaning", 5),
    ("__import__(1)", "no term is called '__import__'", 1),
    ("task(3)", "task: ", 1),
    ("potential", "potential: ", 1),
    ("linear(1, 0)*task", "linear: ", 1),
    ("linear(1, 0, 5)", "this is no reward", 1),
    ("task*linear(1, 0, 5)*linear(1, 0, 5)", "one schedule", 21),
    ("(linear(1,0,5)*task).clip(0, 1)", "follows a schedule", 22),
    ("task.clip(\"a\", 1)", "clip: ", 6),
    ("-\"a\"", "should stand here", 2),
    ("task.into(\"a b/c\")", "letters, digits", 11),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "place"), BAD)
def test_mistakes_are_marked(text: str, message: str, place: int) -> None:
    with pytest.raises(GrammarError, match=message) as caught:
        parse(text)
    said = str(caught.value)
    assert f"at character {place} of" in said
    assert said.splitlines()[-1].strip() == "^"


def test_the_mark_is_under_the_place_in_long_texts() -> None:
    text = "task + " * 60 + "noise"
    with pytest.raises(GrammarError) as caught:
        parse(text)
    *_, shown, mark = str(caught.value).splitlines()
    assert shown[mark.index("^") :].startswith("noise")


def test_limits() -> None:
    assert parse("(" * 15 + "task" + ")" * 15)
    for text in ("(" * 20 + "task" + ")" * 20, "-" * 25 + "task", "gated(" * 20 + "task" + ")" * 20):
        with pytest.raises(GrammarError, match="20 levels deep"):
            parse(text)
    with pytest.raises(GrammarError, match="at most 1000"):
        parse("task + " * 200 + "task")
    with pytest.raises(TypeError):
        parse(3)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="task+-*/().,=\"'0123456789e_ episodicountlr\n\\:", max_size=60))
def test_junk_makes_a_term_or_a_grammar_error(text: str) -> None:
    try:
        parse(text)
    except GrammarError:
        pass
