"""How a request travels: over httpx, or through the openai SDK; one try, a bounded body, no redirect followed."""

import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from .keys import key_named, struck

MOST_BODY = 16 << 20  # bytes of a reply


class Reply(NamedTuple):
    """What a server sent."""

    status: int
    headers: Mapping[str, str]
    payload: Any
    """The JSON value of the body, or None where it is not JSON (or was cut off)."""
    text: str
    """The beginning of the body, keys struck out, for messages."""


class NoReply(Exception):
    """Nothing usable came; ``late`` where the time was over."""

    def __init__(self, why: str, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


class Transport(Protocol):
    """One try of one request."""

    def send(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Reply:
        """POST a body, or GET where there is none.

        Raises:
            NoReply: No reply within the time, or none at all.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def check_url(base_url: str) -> str:
    """The base URL without its last slash.

    Raises:
        ValueError: It is none, or holds what belongs elsewhere (a password, a query).
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{base_url!r} is no base URL; it looks like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a base URL holds no password, key or query: keys are read from the environment (key_env=)")
    return base_url.rstrip("/")


class Http:
    """Requests over httpx (extra "language")."""

    def __init__(self, base_url: str, key_env: str | None) -> None:
        self.base_url, self.key_env = check_url(base_url), key_env
        if find_spec("httpx") is None:
            raise ImportError(
                "asking a language model takes httpx, which is not installed: pip install 'cairn-rl[language]'"
            )
        self._client: Any = None
        self._process = 0

    def _open(self) -> Any:
        if self._client is None or self._process != os.getpid():  # connections are not shared with a forked child
            import httpx

            host = urlsplit(self.base_url).hostname or ""
            local = host == "localhost" or host == "::1" or host.startswith("127.")
            # A proxy of the environment's has no business with this machine's own servers.
            self._client, self._process = httpx.Client(trust_env=not local, follow_redirects=False), os.getpid()
        return self._client

    def send(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Reply:
        """Send, and read at most ``MOST_BODY`` bytes within ``seconds``."""
        client = self._open()
        import httpx

        key = key_named(self.key_env) if self.key_env else None
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        end = time.monotonic() + seconds
        limits = httpx.Timeout(seconds, connect=min(seconds, 10.0))
        content = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            request = client.build_request(
                "GET" if content is None else "POST", self.base_url + path, content=content, headers=headers,
                timeout=limits,
            )  # fmt: skip
            reply = client.send(request, stream=True)
            try:
                pieces, size = [], 0
                for piece in reply.iter_bytes():
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_BODY:
                        raise NoReply(f"the reply is longer than {MOST_BODY >> 20} MiB")
                    if time.monotonic() > end:  # a trickle beats the timeout of each read
                        raise NoReply(f"the reply was not complete after {seconds:.0f} s", late=True)
            finally:
                reply.close()
        except httpx.TimeoutException:
            raise NoReply(f"no reply within {seconds:.3g} s", late=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NoReply(
                f"no server answers at {self.base_url} ({struck(str(error)) or type(error).__name__})"
            ) from None
        text = b"".join(pieces).decode("utf-8", "replace")
        return Reply(
            int(reply.status_code), {k.lower(): v for k, v in reply.headers.items()}, _parsed(text), struck(text)
        )

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None and self._process == os.getpid():
            self._client.close()
        self._client = None


class Sdk:
    """The same through the openai SDK (extra "openai"), for those whose servers need what it does to a request."""

    def __init__(self, base_url: str, key_env: str | None) -> None:
        self.base_url, self.key_env = check_url(base_url), key_env
        if find_spec("openai") is None:
            raise ImportError(
                "transport='openai' takes the openai SDK, which is not installed: pip install 'cairn-rl[openai]'"
            )
        self._client: Any = None

    def send(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Reply:
        """Send by the SDK's own calls, its retries turned off."""
        import openai

        if self._client is None:
            # A key is asked for even where the server takes none.
            key = (key_named(self.key_env) if self.key_env else None) or "none"
            self._client = openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0)
        try:
            if body is None:
                raw = self._client.models.with_raw_response.list(timeout=seconds)
            else:
                raw = self._client.chat.completions.with_raw_response.create(**body, timeout=seconds)
            reply = raw.http_response
        except openai.APITimeoutError:
            raise NoReply(f"no reply within {seconds:.3g} s", late=True) from None
        except openai.APIStatusError as error:
            reply = error.response
        except openai.OpenAIError as error:
            raise NoReply(f"no server answers at {self.base_url} ({struck(str(error))})") from None
        text = reply.text
        return Reply(
            int(reply.status_code), {k.lower(): v for k, v in reply.headers.items()}, _parsed(text), struck(text)
        )

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
        self._client = None


TRANSPORTS: dict[str, type[Http] | type[Sdk]] = {"httpx": Http, "openai": Sdk}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
