"""Words, numbers and marks of a program's text, with the indentation that Python gives meaning to.

ASCII alone, outside of comments and docstrings: there are no letters that look alike, and nothing is normalised.
"""

import re
from typing import NamedTuple

from .limits import Limits, ProgramError

KEYWORDS = frozenset("def return if elif else for in and or not True False None pass import from as".split())
REFUSED = {
    "while": "loops have a number of rounds that is known: for i in range(10)",
    "class": "there are no classes",
    "lambda": "write a function with def",
    "try": "nothing raises here, so there is nothing to catch",
    "except": "nothing raises here, so there is nothing to catch",
    "finally": "nothing raises here, so there is nothing to catch",
    "raise": "a program gives a number for every row, always",
    "with": "there is nothing to enter",
    "global": "functions see their parameters and constants of the program only",
    "nonlocal": "functions see their parameters and constants of the program only",
    "del": "names end with their function",
    "yield": "a function returns once",
    "async": "a function returns once",
    "await": "a function returns once",
    "assert": "nothing raises here; use where(...)",
    "break": "use if inside the loop",
    "continue": "use if inside the loop",
    "is": "compare with ==",
}
# Marks that reorder what is shown, so that a reader sees other code than the one that runs.
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_TOKEN = re.compile(
    r"(?P<space> +)|(?P<comment>\#[^\n]*)|(?P<newline>\n)"
    r"|(?P<doc>\"\"\"(?:(?!\"\"\").)*\"\"\"|'''(?:(?!''').)*''')"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<string>\"[ !\#-\[\]-~]*\"|'[ -&(-\[\]-~]*')"
    r"|(?P<mark>\*\*=|//=|\*\*|//|->|[-+*/%]=|[<>=!]=|:=|<<|>>|\.\.\.|[-+*/%@<>=()\[\]{}:,.&|^~;])",
    re.DOTALL,
)


class Token(NamedTuple):
    """A piece of the text: kind is "number", "name", "string", "doc", "mark", "newline", "indent", "dedent", "end"."""

    kind: str
    text: str
    at: int


def tokens(text: str, limits: Limits) -> list[Token]:
    """Cut a program's text into tokens.

    Raises:
        ProgramError: A limit is passed, or something has no meaning here.
    """
    _check_text(text, limits)
    out: list[Token] = []
    indents, brackets, at, fresh = [0], 0, 0, True
    while at < len(text):
        if fresh and not brackets:
            at, fresh = _indent(text, at, indents, out, limits), False
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _meaningless(text, at)
        kind, word = str(match.lastgroup), match.group()
        if kind == "newline":
            if not brackets:
                out.append(Token("newline", "", at))
                fresh = True
        elif kind not in ("space", "comment"):
            if kind in ("number", "name"):
                _check_word(kind, word, text, at, match.end(), limits)
            if kind == "mark":
                brackets = max(brackets + (word in "([{") - (word in ")]}"), 0)
            out.append(Token(kind, word, at))
        if len(out) > limits.tokens:
            raise ProgramError("budget", f"the program has more than {limits.tokens} words and marks", text, at)
        at = match.end()
    out.append(Token("newline", "", len(text)))
    out += [Token("dedent", "", len(text))] * (len(indents) - 1)
    out.append(Token("end", "", len(text)))
    return out


def _check_text(text: str, limits: Limits) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a reward program is text, and not {type(text).__name__}")
    if len(text) > limits.characters:
        raise ProgramError("text", f"the program has {len(text)} characters; at most {limits.characters} are read")
    for pattern, what in ((_CONTROL, "a tab or control character"), (_HIDDEN, "an invisible character")):
        if bad := pattern.search(text):
            raise ProgramError(
                "text", f"{what} (code {ord(bad.group())}); use spaces and plain letters", text, bad.start()
            )
    begin = 0
    for line in text.split("\n"):
        if len(line) > limits.line:
            raise ProgramError("text", f"a line has more than {limits.line} characters", text, begin)
        begin += len(line) + 1


def _indent(text: str, at: int, indents: list[int], out: list[Token], limits: Limits) -> int:
    """Read the spaces that a line begins with; empty lines have no meaning."""
    end = at
    while end < len(text) and text[end] == " ":
        end += 1
    if end == len(text) or text[end] in "\n#":
        return end
    width = end - at
    if width > indents[-1]:
        if len(indents) > limits.blocks:
            raise ProgramError("budget", f"blocks stand more than {limits.blocks} deep in each other", text, end)
        indents.append(width)
        out.append(Token("indent", "", end))
    while width < indents[-1]:
        indents.pop()
        out.append(Token("dedent", "", end))
    if width != indents[-1]:
        raise ProgramError("syntax", "this line is indented like none of the blocks around it", text, end)
    return end


def _check_word(kind: str, word: str, text: str, at: int, end: int, limits: Limits) -> None:
    following = text[end : end + 1]
    if kind == "number":
        if len(word) > limits.digits:
            raise ProgramError("text", f"a number of more than {limits.digits} digits", text, at)
        if following.isalnum() or following == "_":
            raise ProgramError("syntax", "numbers are decimal, such as 12 or 0.5 or 1e-3", text, at)
        return
    if len(word) > limits.name:
        raise ProgramError("text", f"a name of more than {limits.name} characters", text, at)
    if following and following in "\"'":
        raise ProgramError("syntax", f"strings have no prefix {word!r} here: they only name components", text, at)
    if word.startswith("__") or word.endswith("__"):
        raise ProgramError("syntax", "names with two underscores at an end have no meaning here", text, at)
    if word in REFUSED:
        raise ProgramError("syntax", f"{word!r} is not part of the language: {REFUSED[word]}", text, at)


def _meaningless(text: str, at: int) -> ProgramError:
    if text[at] in "\"'":
        return ProgramError("syntax", "this string is not closed, or holds what a component's name cannot", text, at)
    if text[at] == "\\":
        return ProgramError("syntax", "a line goes on inside of brackets, and not after a backslash", text, at)
    if ord(text[at]) > 126:
        return ProgramError("text", f"a letter outside of ASCII (code {ord(text[at])}) in the code", text, at)
    return ProgramError("syntax", f"{text[at]!r} has no meaning here", text, at)
