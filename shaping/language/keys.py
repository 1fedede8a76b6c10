"""Keys of servers: from the environment alone, taken out of it, and struck from every text.

A key that stays in the environment is inherited by every child process. So the first client that needs it takes it out
of this process's environment; a child that was forked forgets it. It is never an attribute of an object that could be
printed, saved or copied: whoever sends asks here by the variable's name.
"""

import os

_taken: dict[str, str] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_taken.clear)


def key_named(variable: str) -> str | None:
    """The key in an environment variable, which is gone from the environment afterwards; None where there is none.

    Raises:
        ValueError: It could not be a header: blanks or what is not ASCII.
    """
    found = os.environ.pop(variable, None)
    if found is not None:
        found = found.strip()
        if not found.isascii() or any(c.isspace() or not c.isprintable() for c in found):
            raise ValueError(f"the environment variable {variable} holds no key: blanks, or letters outside ASCII")
        if found:
            _taken[variable] = found
    return _taken.get(variable)


def struck(text: str, most: int = 300) -> str:
    """A server's text as it may be shown: keys struck out, control characters gone, cut to ``most`` characters."""
    for key in _taken.values():
        if len(key) >= 6:
            text = text.replace(key, "[key]")
    clean = "".join(c if c.isprintable() else " " for c in text[: 8 * most])
    clean = " ".join(clean.split())
    return clean if len(clean) <= most else clean[: most - 3] + "..."
