"""Recorded completions in the place of a model's server, for ``cairn bench behaviours --recordings``.

A recording is a text file: the prompt exactly as a search asked it, and what a model or a person answered. The search
is the real one and asks over HTTP, at a server on this machine whose giver looks for its prompt among the recordings.

What a match means: the prompts of later rounds tell what was measured in a training, and another processor trains other
bits. So a recording answers its own prompt, word for word, and also one that differs from it in numbers outside of the
programs alone; which of the two it was is counted and stands in the cell. A prompt with another word in it (a finding
more or less, another program) is not answered: it is written beside the recordings, ``.asked.txt``, and the search
stops there. Whoever fills in the completion and takes ``.asked`` out of the name has recorded it, and it goes on.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cairn.shaping.language import Answer, Question

PROMPT, COMPLETION = "==== prompt ====", "==== completion ===="
_PROGRAM = re.compile(r"(```python\n.*?\n```)", re.DOTALL)
_NUMBER = re.compile(r"-?\b\d+(?:\.\d+)?(?:e[-+]?\d+)?%?|\b(?:nan|inf)\b")


class Unrecorded(LookupError):
    """Nobody has recorded an answer to a prompt.

    Args:
        path: The file that the prompt was written to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"nobody has recorded an answer to {path}: write one under its last line, rename the file to "
            f"{path.name.replace('.asked', '')}, and start again"
        )


@dataclass
class Recordings:
    """A giver that answers from the recordings of one search.

    Args:
        folder: Where they are; made when a prompt is written there.
        stem: Their names begin with it; a number follows.
        about: What a new file says of itself, first.
        told: Is given each file that answered, and whether its prompt is the one asked, word for word.
    """

    folder: Path
    stem: str
    about: str = ""
    told: Callable[[Path, bool], None] = lambda path, same: None
    missing: Path | None = None
    """Where the prompt was written that nobody has answered."""

    def ask(self, question: Question) -> Answer:
        """The completion of this prompt, or of one that differs in numbers."""
        prompt = str(question.messages[-1]["content"]).strip()
        known = list(self._recorded())
        for same in (True, False):
            for path, asked, completion in known:
                if asked == prompt if same else words(asked) == words(prompt):
                    self.told(path, same)
                    return Answer((completion,))
        self.missing = self.folder / f"{self.stem}-{len(known) + 1}.asked.txt"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.missing.write_text(f"{self.about}\n\n{PROMPT}\n{prompt}\n\n{COMPLETION}\n", encoding="utf-8")
        return Answer(outcome="error", why=f"no completion is recorded for this prompt: it is in {self.missing}")

    def _recorded(self) -> Iterator[tuple[Path, str, str]]:
        """Every recording with its prompt and its completion, in the order of their numbers."""
        numbered = re.compile(re.escape(self.stem) + r"-(\d+)\.txt")
        found = [(int(m.group(1)), p) for p in self.folder.glob("*.txt") if (m := numbered.fullmatch(p.name))]
        for _, path in sorted(found):
            text = path.read_text(encoding="utf-8")
            head, _, rest = text.partition(f"\n{PROMPT}\n")
            prompt, _, completion = rest.partition(f"\n{COMPLETION}\n")
            if not rest or not completion.strip():
                raise ValueError(
                    f"{path} is no recording: it has the lines {PROMPT} and {COMPLETION!r}, and text after each"
                )
            yield path, prompt.strip(), completion.strip()


def words(prompt: str) -> str:
    """A prompt without the numbers that stand outside of its programs."""
    parts = _PROGRAM.split(prompt)
    return "".join(part if k % 2 else _NUMBER.sub("#", part) for k, part in enumerate(parts))
