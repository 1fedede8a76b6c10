"""Programs in what models say."""

import pytest

from cairn.shaping.language.search import program_in

GOOD = "def reward(t):\n    return t\n"
HELPED = "def half(x):\n    return x / 2\n\ndef reward(t):\n    return half(t)\n"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (f"Sure.\n```python\n{GOOD}```\nGood luck!", GOOD),
        (f"```\n{GOOD}```", GOOD),
        (f"```py\r\n{GOOD}```", GOOD),
        (f"First draft\n```python\ndef reward(u):\n    return u\n```\nbetter:\n```python\n{GOOD}```", GOOD),
        (f"```python\n{HELPED}```", HELPED),  # Eureka's reader kept the text from the last def on
        (f"```python\nprint(1)\n```\n```python\n{GOOD}```\n```\noutput\n```", GOOD),
        (f"```python\n{GOOD}", GOOD),  # cut off before the fence closed
        (f"Here it is:\n\n{HELPED}\nI hope it helps.", HELPED.rstrip() + "\n"),
        ("I cannot help with that.", None),
        ("", None),
        ("```json\n{}\n```", None),
        ("The function def reward(t) would be simple.", None),
        ("```python\nclass Reward:\n    pass\n```", None),
    ],
)
def test_the_program_is_found_whole(said: str, found: str | None) -> None:
    got = program_in(said)
    assert (got.strip() if got else got) == (found.strip() if found else found)


def test_a_huge_answer_is_cut() -> None:
    assert program_in("x" * 10_000_000 + f"\n```python\n{GOOD}```") is None
