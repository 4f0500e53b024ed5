"""A hub on the loopback interface: the endpoints that an upload needs, over files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["TOKEN", "Hub", "hub"]

TOKEN = "hf_not_a_real_token_0123456789"
_LARGE = (".safetensors",)


@dataclass
class Hub:
    """repos: id -> {"private", "branches": {branch: {path: bytes}}, "messages"}. refuse: path part -> status."""

    address: str = ""
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)

    def create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        organization = asked.get("organization")
        name = f"{organization}/{asked['name']}" if organization else asked["name"]
        url = {"url": f"{self.address}/{name}"}
        if name in self.repos:
            return 409, url
        private = bool(asked.get("private") or asked.get("visibility") == "private")
        self.repos[name] = {"private": private, "branches": {"main": {}}, "messages": []}
        return 200, url

    def validate(self, card: str) -> tuple[int, Any]:
        """The hub checks more; here a license has to be one that it knows."""
        errors = [{"message": '"license" must be one of [apache-2.0, mit]'}] if "license: wtf\n" in card else []
        return (400 if errors else 200), {"errors": errors, "warnings": []}

    def branch(self, repo: str, branch: str) -> tuple[int, Any]:
        branches = self.repos[repo]["branches"]
        if branch in branches:
            return 409, {"error": "Reference already exists"}
        branches[branch] = dict(branches["main"])
        return 200, {}

    def modes(self, asked: dict[str, Any]) -> tuple[int, Any]:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        return 200, {"files": files}

    def batch(self, asked: dict[str, Any]) -> tuple[int, Any]:
        objects = [
            {**one, "authenticated": True, "actions": {"upload": {"href": f"{self.address}/objects/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        files = self.repos[repo]["branches"][branch]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.repos[repo]["messages"].append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            else:
                return 400, {"error": f"unexpected {line['key']}"}
        url = f"{self.address}/{repo}/commit/{'0' * 40}"
        return 200, {"commitUrl": url, "commitOid": "0" * 40, "hookOutput": "", "success": True}


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            self._answer(*self._post(body))

        def do_PUT(self) -> None:
            body, oid = self._body(), self.path.rpartition("/")[2]
            if hashlib.sha256(body).hexdigest() == oid:
                state.objects[oid] = body
                self._answer(200, {})
            else:
                self._answer(400, {"error": "another content"})

        def _post(self, body: bytes) -> tuple[int, Any]:
            for part, status in state.refuse.items():
                if part in self.path:
                    return status, {"error": f"refused with {status}"}
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                return 401, {"error": "Invalid username or password."}
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts == ["api", "repos", "create"]:
                return state.create(json.loads(body))
            if parts == ["api", "validate-yaml"]:
                return state.validate(json.loads(body)["content"])
            if parts[-3:] == ["lfs", "objects", "batch"]:
                return state.batch(json.loads(body))
            repo, kind, revision = "/".join(parts[2:4]), parts[4], parts[5]
            if kind == "branch":
                return state.branch(repo, revision)
            if kind == "preupload":
                return state.modes(json.loads(body))
            if kind == "commit":
                return state.commit(repo, revision, [json.loads(line) for line in body.splitlines()])
            return 404, {"error": f"no {self.path}"}

        def _body(self) -> bytes:
            state.requests.append(f"{self.command} {self.path}")
            if self.headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def _answer(self, status: int, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
