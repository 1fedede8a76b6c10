"""Find the program in what a model said."""

import re

from ...programs.lower import ENTRIES

_FENCE = re.compile(r"```[ \t]*[A-Za-z0-9_+-]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_ENTRY = re.compile(rf"^def\s+(?:{'|'.join(ENTRIES)})\s*\(", re.MULTILINE)
MOST = 100_000  # characters of an answer that are looked at


def program_in(answer: str) -> str | None:
    """The reward program of an answer, whole: helper functions and all.

    The last fenced block that defines a reward wins (models mend their own drafts further down); without such a block,
    everything from the first ``def`` or assignment that belongs to one.

    Returns:
        The text, or None where there is none.
    """
    answer = answer[:MOST]
    blocks = [block for block in _FENCE.findall(answer) if _ENTRY.search(block)]
    if blocks:
        return _trimmed(blocks[-1])
    if "```" not in answer and _ENTRY.search(answer):
        lines = answer.splitlines()
        starts = [k for k, line in enumerate(lines) if re.match(r"(def|import|from)\b", line)]
        body = lines[starts[0] :]
        # Prose below the program begins at the margin too; code at the margin begins with a def or a name and "=".
        for k, line in enumerate(body):
            if line[:1].strip() and not re.match(r"(def|import|from|[#)\]}@]|[A-Za-z_]\w*\s*=)", line):
                body = body[:k]
                break
        return _trimmed("\n".join(body))
    return None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"
