"""The server that this machine's environment variables name, for rewards that are written as text.

A reward's text, which may come from a run folder, names no server and no key: a stranger's folder must not decide where
requests and keys go.
"""

import os

from .ask import Giver

URL, MODEL, CACHE = "CAIRN_LANGUAGE_URL", "CAIRN_LANGUAGE_MODEL", "CAIRN_LANGUAGE_CACHE"


def giver_of(giver: Giver | None, who: str) -> Giver:
    """The giver that was passed, or a client of the server that the environment names.

    Raises:
        ValueError: There is neither.
    """
    if giver is not None:
        return giver
    url, model = os.environ.get(URL), os.environ.get(MODEL)
    if not url or not model:
        raise ValueError(
            f"{who} asks a language model, and nobody says which: set {URL} (such as http://127.0.0.1:8000/v1) and "
            f"{MODEL}, or pass a giver in Python (cairn.shaping.language.Client)"
        )
    from .client import Client

    return Client(url, model, cache=os.environ.get(CACHE))
