"""A server on loopback that speaks Anthropic's Messages API, as far as a judge uses it.

    with MessagesServer([status(429), graded({"correctness": 4})]) as server:
        judge = AnthropicJudge(rubric, "key", base_url=server.url)

Replies are given in order, the last one again and again. `requests` holds what came in.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MODEL = "claude-sonnet-5-5"


@dataclass(frozen=True)
class Reply:
    """status, headers and body as sent.

    delay: seconds before the first byte. pause: seconds after each byte of the body.
    missing: bytes of the announced length that are never sent; the connection is closed instead.
    dropped: nothing at all is sent, and the connection is closed.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    missing: int = 0
    pause: float = 0.0
    dropped: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    method: str = "POST"


def message(text: str | None, **changes: Any) -> dict[str, Any]:
    """A Messages API reply whose one text block is `text`; `changes` replace top-level fields."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 20},
        **changes,
    }


def ok(content: object, **options: Any) -> Reply:
    return Reply(json.dumps(content).encode(), headers={"content-type": "application/json"}, **options)


def graded(grades: Mapping[str, object], rationale: str = "Because.", **changes: Any) -> Reply:
    """A reply that grades as asked."""
    return ok(message(json.dumps({"rationale": rationale, "grades": grades}), **changes))


def status(code: int, kind: str = "api_error", said: str = "", **headers: str) -> Reply:
    """An error as the API sends it; header names are given with _ for -."""
    body = {"type": "error", "error": {"type": kind, "message": said}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body).encode(), code, {"content-type": "application/json", **named})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # many clients connect at the same moment


class MessagesServer:
    """replies: in order, the last one for all later requests; or a function of the request. port: 0 takes any."""

    def __init__(self, replies: Sequence[Reply] | Callable[[Request], Reply], port: int = 0) -> None:
        self.requests: list[Request] = []
        self._replies = replies
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> MessagesServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            if callable(self._replies):
                return self._replies(request)
            return self._replies[min(len(self.requests), len(self._replies)) - 1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer("GET", {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                self._answer("POST", json.loads(body))

            def _answer(self, method: str, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = outer._reply(Request(self.path, headers, body, method))
                time.sleep(reply.delay)
                if reply.dropped:
                    self.close_connection = True
                    return
                try:
                    self._send(reply)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client gave up

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                whole = reply.body[: len(reply.body) - reply.missing]
                if not reply.pause:
                    self.wfile.write(whole)
                else:
                    for k in range(len(whole)):
                        self.wfile.write(whole[k : k + 1])
                        self.wfile.flush()
                        time.sleep(reply.pause)
                if reply.missing:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
