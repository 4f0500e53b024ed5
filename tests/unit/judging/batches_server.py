"""The Message Batches API, as far as a judge uses it: a function of requests for MessagesServer.

    api = Batches(grade_of, polls=2)
    with MessagesServer(api) as server:
        judge = BatchJudge(rubric, "key", base_url=server.url, batches=store.grades)

Results come in the reverse order of the requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from messages_server import Reply, Request, ok, status

_TIMES = {"created_at": "2026-11-23T20:00:00Z", "expires_at": "2026-11-24T20:00:00Z"}


def shown(params: dict[str, Any]) -> dict[str, str]:
    """What a call to the Messages API shows the judge."""
    text = params["messages"][0]["content"].split("\n")[2]
    material: dict[str, str] = json.loads(text)
    return material


class Batches:
    """result: what a request of a batch ends in, from its parameters: {"type": "succeeded", "message": ...} and so on.

    polls: how often a batch is in progress before it has ended. first: replies that come before all others.
    url: where a batch says its results are; the default is the path alone.
    """

    def __init__(
        self,
        result: Callable[[dict[str, Any]], dict[str, Any] | None],
        *,
        polls: int = 1,
        first: tuple[Reply, ...] = (),
        url: str = "",
    ) -> None:
        self.created: list[list[str]] = []
        self.polled: list[str] = []
        self._result = result
        self._polls = polls
        self._first = list(first)
        self._url = url
        self._requests: dict[str, list[dict[str, Any]]] = {}
        self.extra: list[str] = []
        """Lines at the end of every results file."""

    def __call__(self, request: Request) -> Reply:
        if self._first:
            return self._first.pop(0)
        if request.method == "POST":
            batch = f"msgbatch_{len(self.created) + 1}"
            self.created.append([one["custom_id"] for one in request.body["requests"]])
            self._requests[batch] = request.body["requests"]
            return ok(self._state(batch, "in_progress"))
        found = re.fullmatch(r"/v1/messages/batches/([\w-]+)(/results)?", request.path)
        if found is None or found[1] not in self._requests:
            return status(404, "not_found_error", "no such batch")
        batch = found[1]
        if found[2]:
            lines = []
            for one in reversed(self._requests[batch]):
                result = self._result(one["params"])
                if result is not None:
                    lines.append(json.dumps({"custom_id": one["custom_id"], "result": result}))
            return Reply("\n".join([*lines, *self.extra, ""]).encode(), headers={"content-type": "application/binary"})
        self.polled.append(batch)
        ended = self.polled.count(batch) > self._polls
        return ok(self._state(batch, "ended" if ended else "in_progress"))

    def _state(self, batch: str, state: str) -> dict[str, Any]:
        count = len(self._requests[batch])
        url = f"{self._url}/v1/messages/batches/{batch}/results"
        return {
            "id": batch,
            "type": "message_batch",
            "processing_status": state,
            "request_counts": {"processing": count, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
            "results_url": url if state == "ended" else None,
            "ended_at": None,
            **_TIMES,
        }
