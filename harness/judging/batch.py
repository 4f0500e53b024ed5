"""A language model as judge through the Message Batches API: half the price, and an answer within a day.

A batch's id is kept before it is looked at again, so a run that was killed goes on with it when it starts again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from harness.judging.account import Account
from harness.judging.anthropic_judge import DEFAULT_MODEL
from harness.judging.message_form import GradeForm, message_params, read_content
from harness.judging.messages_api import (
    DEFAULT_BASE_URL,
    CallProblem,
    Hopeless,
    MessagesApi,
    Repeatable,
    Unusable,
    backoff,
)
from harness.judging.protocol import Answer, Grade
from harness.judging.rubric import Rubric
from harness.judging.usage import read_usage
from harness.progress import Progress, Silent

__all__ = ["BatchJudge", "OpenBatches"]

T = TypeVar("T")

_MOST_REQUESTS = 10_000  # in one batch; the API takes 100,000 or 256 MB
_LARGEST_RESULTS = 500_000_000  # bytes
_MAX_ATTEMPTS = 6
_FIRST_POLL = 1.0


class OpenBatches(Protocol):
    """Where the ids of batches are kept until their results are."""

    def open_batches(self) -> list[tuple[str, Collection[str]]]:
        """Each batch's id and the ids of its requests, the oldest first."""
        ...

    def keep_batch(self, batch: str, requests: Collection[str]) -> None: ...
    def end_batch(self, batch: str) -> None: ...


class _Sent(NamedTuple):
    """A batch under way. most: request -> USD reserved for it in this run; empty where another run sent it.

    rest: requests of it that nobody asks for now.
    """

    id: str
    requests: frozenset[str]
    most: Mapping[str, float]
    rest: frozenset[str] = frozenset()


class BatchJudge:
    """Grades as AnthropicJudge does, by the same prompts.

    suite_seconds: how long to wait for results in one run; a batch that takes longer is found again by the next run.
    call_seconds: for one request to the API. poll_seconds: the longest time between two looks at a batch.
    """

    def __init__(
        self,
        rubric: Rubric,
        api_key: str,
        *,
        batches: OpenBatches,
        model: str = DEFAULT_MODEL,
        base_url: str = DEFAULT_BASE_URL,
        suite_seconds: float = 86_400.0,
        call_seconds: float = 120.0,
        poll_seconds: float = 30.0,
        backoff_seconds: float = 1.0,
        max_tokens: int = 4096,
        account: Account | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._api = MessagesApi(api_key, base_url)
        self._form = GradeForm(rubric)
        self._max_tokens = max_tokens
        self.rubric = rubric
        self.model = model
        # The same name as of single calls: it is the same judge, and what it graded is not graded again.
        self.name = f"anthropic {model}" + (f" at {self._api.place}" if self._api.place else "")
        self.note = f"judge {model}"
        self.criteria = self._form.criteria
        self.prompt_version = self._form.version
        self._batches = batches
        self._suite = suite_seconds
        self._suite_left = suite_seconds
        self._call_seconds = call_seconds
        self._poll_seconds = poll_seconds
        self._backoff = backoff_seconds
        self._account = account or Account(batch=True)
        self._progress = progress or Silent()

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order."""
        grades = dict(self.arriving(items))
        return [grades[position] for position in range(len(items))]

    def arriving(self, items: Sequence[Answer], /) -> Iterator[tuple[int, Grade]]:
        """Each item's position and Grade, once, batch by batch."""
        if not items:
            return
        self._account.asks(self.name)
        begun = time.monotonic()
        ends = begun + self._suite_left
        waiting: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            waiting.setdefault(self._request_id(item), []).append(position)
        try:
            for batch, requests in self._batches.open_batches():
                wanted = frozenset(waiting.keys() & set(requests))
                if wanted:
                    count = f"{len(wanted)} of {len(waiting)} answers"
                    self._progress.message(f"judge {self.model}: going on with batch {batch}, {count}")
                    rest = frozenset(set(requests) - wanted)
                    yield from self._graded(_Sent(batch, wanted, {}, rest), items, waiting, ends)
            if waiting:
                yield from self._sent_and_graded(items, waiting, ends)
        finally:
            self._suite_left -= time.monotonic() - begun

    def __repr__(self) -> str:
        return f"<BatchJudge {self.model}, rubric {self.rubric.name}>"

    def _request_id(self, item: Answer) -> str:
        content = [self.name, self.prompt_version, item.question, item.reference, item.response]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _params(self, item: Answer) -> dict[str, Any]:
        return message_params(self._form.question(item), self.model, self._max_tokens)

    def _sent_and_graded(
        self, items: Sequence[Answer], waiting: dict[str, list[int]], ends: float
    ) -> Iterator[tuple[int, Grade]]:
        """Send what is still waiting, all of it before the first results are waited for."""
        params = {request: self._params(items[positions[0]]) for request, positions in waiting.items()}
        self._progress.message(
            f"judge {self.model}: {len(params)} answers to grade in a batch, "
            f"{self._account.estimate([*params.values()])}"
        )
        most: dict[str, float] = {}
        for request, one in params.items():
            price = self._account.most(one)
            if self._account.reserve(price, time.monotonic()):
                most[request] = price
            else:
                yield from self._ungraded([request], self._account.reached(), items, waiting)
        sent: list[_Sent] = []
        affordable = list(most)
        for first in range(0, len(affordable), _MOST_REQUESTS):
            requests = affordable[first : first + _MOST_REQUESTS]
            try:
                batch = self._create({request: params[request] for request in requests}, ends)
            except CallProblem as problem:
                for request in requests:
                    self._account.settle(most[request], None, billed=problem.billed, sent=problem.billed)
                yield from self._ungraded(requests, self._api.said(problem), items, waiting)
                continue
            self._batches.keep_batch(batch, requests)
            self._progress.message(f"judge {self.model}: batch {batch} sent, {len(requests)} answers")
            sent.append(_Sent(batch, frozenset(requests), {request: most[request] for request in requests}))
        for under_way in sent:
            yield from self._graded(under_way, items, waiting, ends)

    def _graded(
        self, batch: _Sent, items: Sequence[Answer], waiting: dict[str, list[int]], ends: float
    ) -> Iterator[tuple[int, Grade]]:
        """The grades of a batch that was sent, once it has ended. It is forgotten when all were taken."""
        try:
            self._wait_until_ended(batch, ends)
            results = self._results(batch.id, ends)
        except CallProblem as problem:
            for most in batch.most.values():
                self._account.settle(most, None)  # the batch goes on, and what it costs is not known
            yield from self._ungraded(batch.requests, self._api.said(problem), items, waiting)
            if isinstance(problem, Hopeless) and problem.status == 404:
                self._batches.end_batch(batch.id)
            return
        for request in [request for request in waiting if request in batch.requests]:
            found = results.get(request, [])
            self._pay(batch, request, found)
            try:
                grade = self._read(request, found)
            except Unusable as problem:
                yield from self._ungraded([request], self._api.said(problem), items, waiting)
                continue
            for position in waiting.pop(request):
                yield position, replace(grade, id=items[position].id, rationale=self._api.clean(grade.rationale))
        if batch.rest:
            self._batches.keep_batch(batch.id, batch.rest)
        else:
            self._batches.end_batch(batch.id)

    @staticmethod
    def _ungraded(
        requests: Collection[str], problem: str, items: Sequence[Answer], waiting: dict[str, list[int]]
    ) -> Iterator[tuple[int, Grade]]:
        for request in requests:
            for position in waiting.pop(request):
                yield position, Grade(items[position].id, None, problem=problem)

    def _pay(self, batch: _Sent, request: str, found: Sequence[Mapping[str, Any]]) -> None:
        """Count what a request cost; only what succeeded is billed."""
        billed = any(result.get("type") == "succeeded" for result in found)
        usage = read_usage(found[0].get("message")) if billed and len(found) == 1 else None
        if request in batch.most:
            self._account.settle(batch.most[request], usage, billed=billed)
        elif billed and usage is not None:
            self._account.add(usage)

    def _read(self, request: str, found: Sequence[Mapping[str, Any]]) -> Grade:
        """The grade in a request's result. Raises Unusable."""
        if len(found) != 1:
            raise Unusable("the batch has no result for it" if not found else "the batch has two results for it")
        result = found[0]
        match result.get("type"):
            case "succeeded":
                content = read_content(result.get("message"), self.model, self._max_tokens)
                return self._form.grade(request, content)
            case "errored":
                raise Unusable(f"the judge's API answered {_error_type(result)}")
            case "expired":
                raise Unusable("it expired in the batch before the judge came to it")
            case "canceled":
                raise Unusable("the batch was canceled before the judge came to it")
            case other:
                raise Unusable(f"the batch has a result of the type {other!r} for it")

    # Requests to the API

    def _create(self, params: Mapping[str, Mapping[str, Any]], ends: float) -> str:
        """The id of a new batch. Raises CallProblem; nothing is sent twice where it may have arrived."""
        requests = [{"custom_id": request, "params": one} for request, one in params.items()]

        def create(timeout: float) -> str:
            batch = self._api.client().messages.batches.create(requests=requests, timeout=timeout)
            found = getattr(batch, "id", None)
            if not isinstance(found, str) or not re.fullmatch(r"[\w-]{1,200}", found):
                raise Unusable("the judge's API made a batch without an id", billed=True)
            return found

        return self._insist(create, ends, again=lambda problem: isinstance(problem, Repeatable) and not problem.billed)

    def _wait_until_ended(self, batch: _Sent, ends: float) -> None:
        pause = min(_FIRST_POLL, self._poll_seconds)
        self._progress.start(f"judge {self.model}: batch", len(batch.requests))
        while True:
            state = self._insist(lambda timeout: self._state(batch.id, timeout), ends)
            if state.processing_status == "ended":
                self._progress.finish()
                self._check_place(batch.id, state.results_url)
                return
            left = getattr(state.request_counts, "processing", None)
            if isinstance(left, int):
                self._progress.advance(max(0, len(batch.requests) - left))
            if time.monotonic() + pause >= ends:
                self._progress.finish()
                raise Unusable(
                    f"the batch {batch.id} did not end within {self._suite:g} s; the next run goes on with it",
                    billed=True,
                )
            time.sleep(pause)
            pause = min(2 * pause, self._poll_seconds)

    def _state(self, batch: str, timeout: float) -> Any:
        found = self._api.client().messages.batches.retrieve(batch, timeout=timeout)
        if getattr(found, "processing_status", None) not in ("in_progress", "canceling", "ended"):
            raise Unusable("the judge's API answered with something that is no batch")
        return found

    def _check_place(self, batch: str, url: object) -> None:
        """The SDK sends the key to wherever the results are said to be."""
        if not isinstance(url, str) or not url:
            raise Hopeless(f"the results of the batch {batch} are no longer kept", 404)
        ours, theirs = urlsplit(self._api.base_url), urlsplit(url)
        if theirs.netloc and (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            raise Unusable(f"the results of the batch {batch} are at another address, where the key is not sent")

    def _results(self, batch: str, ends: float) -> dict[str, list[Mapping[str, Any]]]:
        """Request -> its results, which come in any order."""

        def fetch(timeout: float) -> bytes:
            batches = self._api.client().messages.batches
            with batches.with_streaming_response.results(batch, timeout=timeout) as response:
                late = f"the batch's results did not come within {timeout:g} s"
                return self._api.read(response, ends=time.monotonic() + timeout, late=late, largest=_LARGEST_RESULTS)

        results: dict[str, list[Mapping[str, Any]]] = {}
        for line in self._insist(fetch, ends).splitlines():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue  # its item then has no result
            if isinstance(found, dict) and isinstance(found.get("custom_id"), str):
                result = found.get("result")
                results.setdefault(found["custom_id"], []).append(result if isinstance(result, dict) else {})
        return results

    def _insist(
        self,
        send: Callable[[float], T],
        ends: float,
        again: Callable[[CallProblem], bool] = lambda problem: not isinstance(problem, Hopeless),
    ) -> T:
        """What `send` gives, asked again where that may help. Raises CallProblem."""
        attempt = 0
        while True:
            attempt += 1
            timeout = max(0.05, min(self._call_seconds, ends - time.monotonic()))
            try:
                with self._api.problems(f"the judge's API did not answer within {timeout:.3g} s"):
                    return send(timeout)
            except CallProblem as problem:
                asked = problem.wait if isinstance(problem, Repeatable) else None
                wait = max(asked or 0.0, backoff(self._backoff, attempt, ""))
                if not again(problem) or attempt == _MAX_ATTEMPTS or time.monotonic() + wait >= ends:
                    raise
            time.sleep(wait)


def _error_type(result: Mapping[str, Any]) -> str:
    """What kind of error a result has, and the server's words for it."""
    outer = result.get("error")
    error = outer.get("error") if isinstance(outer, Mapping) else None
    kind, said = (error.get("type"), error.get("message")) if isinstance(error, Mapping) else (None, None)
    text = " ".join(str(said).split()) if said else ""
    return f"{kind or 'an error'}{f': {text}' if text else ''}"
