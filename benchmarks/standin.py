"""A stand-in for a language model's server: OpenAI's chat protocol on this machine, and faults on request.

    python benchmarks/standin.py --port 8000        # answers with a choice among a schema's words, drawn by --seed

Rewards that ask a server can be tried without a model; tests and benchmarks put any giver behind it (an oracle with a
dial, a recording, a small network), and make it fail as servers do.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cairn.shaping.language import Answer, Giver, Oracle, Question

FAULTS = (
    "429",
    "500",
    "400",
    "stall",
    "cut",
    "empty",
    "fewer",
    "more",
    "prose",
    "trickle",
    "hang_up",
    "length",
    "filter",
)


class Standin:
    """A server around a giver, in a thread of this process.

    Args:
        giver: Who makes the answers.
        port: 0 for one that is free.
        faults: From the number of a chat request (0, 1, ...) to the name of a fault in ``FAULTS``, or None.
        model: The only model it has.
        key: What the Authorization header has to hold; None takes anybody.
        refuses: Fields of a request that are met with 422, as servers do that lack them.
        images: Whether pictures are taken.
        delay: Seconds for each answer.
        stall: Seconds that the fault "stall" lasts.

    Attributes:
        requests: The bodies received.
        authorizations: The Authorization headers received.
    """

    def __init__(
        self,
        giver: Giver,
        port: int = 0,
        faults: Callable[[int], str | None] = lambda number: None,
        model: str = "standin",
        key: str | None = None,
        refuses: Sequence[str] = (),
        images: bool = True,
        delay: float = 0.0,
        stall: float = 5.0,
        retry_after: str = "0.05",
    ) -> None:
        self.giver, self.faults, self.model, self.key, self.refuses = giver, faults, model, key, tuple(refuses)
        self.images, self.delay, self.stall, self.retry_after = images, delay, stall, retry_after
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.lock, self.stopped = threading.Lock(), threading.Event()

        class Bound(_Handler):
            standin = self

        self._server = _Server(("127.0.0.1", port), Bound)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Die: connections end in mid-sentence, and new ones are refused."""
        if not self.stopped.is_set():
            self.stopped.set()
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: in two, the second waits for an acknowledgement
    standin: Standin

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay silent."""

    def do_GET(self) -> None:  # noqa: N802
        """List the models."""
        if self._known():
            self._json(200, {"object": "list", "data": [{"id": self.standin.model, "object": "model"}]})

    def do_POST(self) -> None:  # noqa: N802
        """Answer a chat request, or fail as told."""
        server = self.standin
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if not self._known():
            return
        with server.lock:
            number = len(server.requests)
            server.requests.append(body)
            server.authorizations.append(self.headers.get("Authorization"))
        if server.stopped.is_set():
            self.close_connection = True
            return
        problem = self._refused(body)
        if problem is not None:
            self._json(*problem)
            return
        fault = server.faults(number)
        if fault == "hang_up":
            self.close_connection = True
            return
        if fault in ("429", "500", "400"):
            said = {"429": "slow down", "500": "internal error", "400": "this cannot be answered"}[fault]
            self._json(
                int(fault), {"error": {"message": said}}, {"Retry-After": server.retry_after} if fault == "429" else {}
            )
            return
        if fault == "stall":
            server.stopped.wait(server.stall)
        server.stopped.wait(server.delay)
        completion = self._completion(body, fault)
        self._json(400 if "error" in completion else 200, completion, fault=fault)

    def _known(self) -> bool:
        if self.standin.key is not None and self.headers.get("Authorization") != f"Bearer {self.standin.key}":
            shown = self.headers.get("Authorization")
            self._json(401, {"error": {"message": f"Incorrect API key provided: {shown}"}})
            return False
        return True

    def _refused(self, body: Mapping[str, Any]) -> tuple[int, Any] | None:
        server = self.standin
        if body.get("model") != server.model:
            return 404, {"error": {"message": f"The model `{body.get('model')}` does not exist"}}
        for field in server.refuses:
            if field in body or body.get("response_format", {}).get("type") == field:
                return 422, {"error": {"message": f"unexpected field '{field}'"}}
        pictures = any(isinstance(m["content"], list) for m in body["messages"])
        if pictures and not server.images:
            return 400, {"error": {"message": "this model does not support image input"}}
        return None

    def _completion(self, body: Mapping[str, Any], fault: str | None) -> Any:
        n = body.get("n", 1) + {"fewer": -1, "more": 1}.get(fault or "", 0)
        form = body.get("response_format", {}).get("json_schema", {})
        question = Question(
            body["messages"], max(n, 1), form.get("schema"), body.get("temperature", 1.0), body.get("seed")
        )
        answer = self.standin.giver.ask(question)
        if answer.outcome == "error" and not answer.texts:
            return {"error": {"message": answer.why}}
        texts = list(answer.texts)[: 0 if fault == "empty" else n]
        if fault == "prose":
            texts = ["Well, that depends on how one looks at it." for _ in texts]
        finish = {"length": "length", "filter": "content_filter"}.get(fault or "", "stop")
        if fault == "length":
            texts = [t[: len(t) // 2] for t in texts]
        words = sum(len(str(m["content"]).split()) for m in body["messages"])
        return {
            "object": "chat.completion", "model": body["model"],
            "choices": [
                {"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": t}}
                for i, t in enumerate(texts)
            ],
            "usage": {"prompt_tokens": words, "completion_tokens": sum(len(t.split()) for t in texts)},
        }  # fmt: skip

    def _json(self, status: int, tree: Any, headers: Mapping[str, str] | None = None, fault: str | None = None) -> None:
        content = json.dumps(tree).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content) // 2 if fault == "cut" else len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if fault == "trickle":
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if self.standin.stopped.wait(0.05):
                        self.close_connection = True
                        return
            else:
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        except OSError:  # the client did not wait
            self.close_connection = True


def any_word(question: Question) -> Any:
    """The first word of a schema's enum, at its top or in its first part; what an oracle at accuracy 0 never says."""
    schema = question.schema or {}
    for name, part in schema.get("properties", {}).items():
        if "enum" in part:
            return {name: part["enum"][0]}
    return schema["enum"][0] if "enum" in schema else "I have no opinion."


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds for each answer")
    args = parser.parse_args(argv)
    with Standin(Oracle(any_word, accuracy=0.5, seed=args.seed), args.port, delay=args.delay) as server:
        print(
            f"a stand-in for a language model answers at {server.url} (model {server.model!r}); Ctrl-C ends it",
            flush=True,
        )
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


__all__ = ["FAULTS", "Answer", "Standin", "any_word", "main"]

if __name__ == "__main__":
    main()
