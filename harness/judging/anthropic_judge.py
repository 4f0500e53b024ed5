"""A language model as judge, over Anthropic's Messages API or any server that speaks it.

One call grades one answer, or compares one pair.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, TypeVar

from harness.judging.account import Account
from harness.judging.message_form import GradeForm, Question, message_params, read_content
from harness.judging.messages_api import (
    DEFAULT_BASE_URL,
    CallProblem,
    Hopeless,
    MessagesApi,
    Repeatable,
    Secret,
    Stop,
    Unusable,
    backoff,
)
from harness.judging.pairwise import PairForm, PairToCompare, Preference
from harness.judging.protocol import Answer, Grade
from harness.judging.rate_limit import TokenBucket
from harness.judging.rubric import Rubric
from harness.judging.usage import Usage, read_usage
from harness.progress import Progress, Silent

__all__ = ["DEFAULT_MODEL", "AnthropicJudge", "Secret"]

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_MODEL = "claude-sonnet-5-5"

_MAX_ATTEMPTS = 6
_LARGEST_REPLY = 1_000_000  # bytes; a grade has a few hundred


class AnthropicJudge:
    """Grades every criterion of a rubric from 1 to 5; the score is their mean by weight.

    api_key: sent to base_url only; in no message, log line or repr.
    model: an answer by another model leaves the item ungraded; a dated snapshot of it is accepted.
    base_url: where the API is; the environment's ANTHROPIC_BASE_URL is not looked at.
    deadline_seconds: for one item, from its first call, waiting and repeats included. suite_seconds: for all items
    of this judge together; what is not graded by then stays ungraded.
    concurrency: calls under way at a time. calls_per_minute: None sets no limit.
    backoff_seconds: the first wait before a repeat; it doubles. max_tokens: for the reply, thinking included.
    account: the money; without one there is no limit.
    """

    def __init__(
        self,
        rubric: Rubric,
        api_key: str,
        *,
        model: str = DEFAULT_MODEL,
        base_url: str = DEFAULT_BASE_URL,
        deadline_seconds: float = 120.0,
        suite_seconds: float = 3600.0,
        concurrency: int = 8,
        calls_per_minute: float | None = None,
        backoff_seconds: float = 1.0,
        max_tokens: int = 4096,
        account: Account | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._api = MessagesApi(api_key, base_url)
        self._form = GradeForm(rubric)
        self._pair_form = PairForm(rubric)
        self._max_tokens = max_tokens
        self.rubric = rubric
        self.model = model
        self.name = f"anthropic {model}" + (f" at {self._api.place}" if self._api.place else "")
        self.note = f"judge {model}"
        self.criteria = self._form.criteria
        self.prompt_version = self._form.version
        self.pair_prompt_version = self._pair_form.version
        self._deadline = deadline_seconds
        self._late = f"the judge did not answer within {deadline_seconds:g} s"
        self._suite_left = suite_seconds
        self._suite = suite_seconds
        self._concurrency = concurrency
        self._bucket = TokenBucket(calls_per_minute)
        self._backoff = backoff_seconds
        self._account = account or Account()
        self._progress = progress or Silent()

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order. After a refusal that all calls would meet, no more are made."""
        grades = dict(self.arriving(items))
        return [grades[position] for position in range(len(items))]

    def arriving(self, items: Sequence[Answer], /) -> Iterator[tuple[int, Grade]]:
        """Each item's position and Grade, once, as the replies come in."""
        questions = [self._form.question(item) for item in items]
        return self._side_by_side(self._grade, items, questions, "answer to grade")

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in their order; otherwise as `grade`."""
        preferences = dict(self.arriving_preferences(pairs))
        return [preferences[position] for position in range(len(pairs))]

    def arriving_preferences(self, pairs: Sequence[PairToCompare], /) -> Iterator[tuple[int, Preference]]:
        """Each pair's position and Preference, once, as the replies come in."""
        questions = [self._pair_form.question(pair) for pair in pairs]
        return self._side_by_side(self._prefer, pairs, questions, "pair to compare")

    def _side_by_side(
        self,
        judge_one: Callable[[T, Question, Stop, float], R],
        items: Sequence[T],
        questions: Sequence[Question],
        what: str,
    ) -> Iterator[tuple[int, R]]:
        """Each item's position and what judge_one gives for it and its question, as the replies come in."""
        if not items:
            return
        count = f"1 {what}" if len(items) == 1 else f"{len(items):,} {what.replace(' ', 's ', 1)}"
        estimate = self._account.estimate([self._params(question) for question in questions])
        self._progress.message(f"judge {self.model}: {count}, {estimate}")
        self._account.asks(self.name)
        self._api.client()
        stop = Stop()
        begun = time.monotonic()
        ends = begun + self._suite_left
        pool = ThreadPoolExecutor(min(self._concurrency, len(items)), thread_name_prefix="judge")
        self._progress.start(f"judge {self.model}", len(items))
        try:
            asked = zip(items, questions, strict=True)
            positions = {pool.submit(judge_one, *one, stop, ends): k for k, one in enumerate(asked)}
            for done, future in enumerate(as_completed(positions), 1):
                self._progress.advance(done)
                yield positions[future], future.result()
            self._progress.finish()
        finally:
            # After Ctrl-C: begin nothing more, and do not wait for the calls under way.
            stop.set("the judging was stopped")
            pool.shutdown(wait=False, cancel_futures=True)
            self._suite_left -= time.monotonic() - begun

    def __repr__(self) -> str:
        return f"<AnthropicJudge {self.model}, rubric {self.rubric.name}>"

    def _params(self, question: Question) -> dict[str, Any]:
        return message_params(question, self.model, self._max_tokens)

    def _grade(self, item: Answer, question: Question, stop: Stop, suite_ends: float) -> Grade:
        try:
            grade = self._form.grade(item.id, self._reply(item.id, question, stop, suite_ends))
        except CallProblem as problem:
            return Grade(item.id, None, problem=self._api.said(problem))
        return replace(grade, rationale=self._api.clean(grade.rationale))

    def _prefer(self, pair: PairToCompare, question: Question, stop: Stop, suite_ends: float) -> Preference:
        try:
            preference = self._pair_form.preference(pair.id, self._reply(pair.id, question, stop, suite_ends))
        except CallProblem as problem:
            return Preference(pair.id, None, problem=self._api.said(problem))
        return replace(preference, rationale=self._api.clean(preference.rationale))

    def _reply(self, item_id: str, question: Question, stop: Stop, suite_ends: float) -> object:
        """The JSON that the judge answers, after as many calls as it takes. Raises CallProblem."""
        ends = suite_ends
        attempt = 0
        while True:
            self._wait_for_turn(ends, stop, first=attempt == 0)
            params = self._params(question)
            most = self._account.most(params)
            if not self._account.reserve(most, ends):
                raise Unusable(self._account.reached())
            attempt += 1
            if attempt == 1:  # what came before was waiting for others
                ends = min(suite_ends, time.monotonic() + self._deadline)
            try:
                return self._call(params, most, ends)
            except Hopeless as problem:
                stop.set(str(problem))
                raise
            except Repeatable as problem:
                said, asked = str(problem), problem.wait
            wait = backoff(self._backoff, attempt, item_id)
            if asked is not None:
                self._bucket.pause(asked)
                wait = max(wait, asked)
            if (attempt >= _MAX_ATTEMPTS and asked is None) or time.monotonic() + wait >= ends:
                calls = "call" if attempt == 1 else "calls"
                raise Unusable(f"{said}; given up after {attempt} {calls} (deadline {self._deadline:g} s)")
            stop.event.wait(wait)

    def _wait_for_turn(self, ends: float, stop: Stop, *, first: bool) -> None:
        """Returns once a call may be made. Raises Unusable where none may be."""
        if stop.reason:
            raise Unusable(stop.reason)
        paused = self._bucket.paused
        if first and paused > self._deadline:
            raise Unusable(f"the judge's API asked to wait another {paused:.0f} s (deadline {self._deadline:g} s)")
        if not self._bucket.acquire(ends, stop.event):
            late = f"the judging took longer than {self._suite:g} s" if first else self._late
            raise Unusable(stop.reason or late)

    def _call(self, params: dict[str, Any], most: float, ends: float) -> object:
        """The JSON that one call brings, for which `most` USD are reserved. Raises CallProblem."""
        usage: Usage | None = None
        billed = sent = True
        try:
            body = self._ask(params, ends)
        except CallProblem as problem:
            billed, sent = problem.billed, problem.sent
            raise
        else:
            reply = _parsed(body)
            usage = read_usage(reply)
            return read_content(reply, self.model, self._max_tokens)
        finally:
            self._account.settle(most, usage, billed=billed, sent=sent)

    def _ask(self, params: dict[str, Any], ends: float) -> bytes:
        """The body of the reply. Raises CallProblem."""
        late = self._late
        remaining = ends - time.monotonic()
        if remaining <= 0:
            raise Unusable(late, sent=False)
        client = self._api.client()
        with (
            self._api.problems(late),
            client.messages.with_streaming_response.create(**params, timeout=remaining) as response,
        ):
            return self._api.read(response, ends=ends, late=late, largest=_LARGEST_REPLY)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("the judge's reply is not JSON") from None
