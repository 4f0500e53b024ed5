"""A language model as judge, over Anthropic's Messages API or any server that speaks it.

One call grades one answer, or compares one pair. What is judged travels as JSON between two lines that nobody can
guess, never in the system prompt; a reply that is not exactly what was asked for leaves its item without a verdict,
with a reason.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from harness.errors import JudgeError
from harness.judging.material import MATERIAL_IS_DATA, marked
from harness.judging.pairwise import (
    PREFERENCE_SCHEMA,
    PairToCompare,
    Preference,
    pair_prompt,
    pair_system_prompt,
    read_preference,
)
from harness.judging.protocol import Answer, Grade
from harness.judging.rubric import GRADES, Rubric

__all__ = ["AnthropicJudge", "Secret"]

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_BASE_URL = "https://api.anthropic.com"

_MAX_ATTEMPTS = 6
_LONGEST_WAIT = 30.0
_LARGEST_REPLY = 1_000_000  # bytes; a grade has a few hundred
_REFUSED_FOR_ALL = frozenset({401, 402, 403, 404})  # the next item would meet the same


class Secret(str):
    """A string that does not show itself in a repr, so that no traceback with locals prints it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


class AnthropicJudge:
    """Grades every criterion of a rubric from 1 to 5; the score is their mean by weight.

    api_key: sent to base_url only; in no message, log line or repr.
    model: an answer by another model leaves the item ungraded; a dated snapshot of it is accepted.
    base_url: where the API is; the environment's ANTHROPIC_BASE_URL is not looked at.
    deadline_seconds: for one item, waiting and repeats included.
    concurrency: calls under way at a time. backoff_seconds: the first wait before a repeat; it doubles.
    max_tokens: for the reply, thinking included.
    """

    def __init__(
        self,
        rubric: Rubric,
        api_key: str,
        *,
        model: str = DEFAULT_MODEL,
        base_url: str = DEFAULT_BASE_URL,
        deadline_seconds: float = 120.0,
        concurrency: int = 8,
        backoff_seconds: float = 1.0,
        max_tokens: int = 4096,
    ) -> None:
        api_key = Secret(api_key.strip())
        if not api_key or not api_key.isascii() or not api_key.isprintable():
            # An HTTP library would quote the key in its complaint.
            raise JudgeError("the judge's API key is empty or has characters that no key has")
        self.rubric = rubric
        self.model = model
        self.name = f"anthropic {model}"
        self.note = f"judge {model}, not calibrated against grades by people"
        self.criteria = tuple(criterion.name for criterion in rubric.criteria)
        self._deadline = deadline_seconds
        self._concurrency = concurrency
        self._backoff = backoff_seconds
        self._max_tokens = max_tokens
        self._system = _system_prompt(rubric)
        self._pair_system = pair_system_prompt(rubric)
        self._schema = _schema(self.criteria)
        self._base_url = base_url
        self._key = api_key
        self._client: Any = None

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order. After a refusal that all calls would meet, no more are made."""
        return self._side_by_side(self._grade, items)

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in their order; otherwise as `grade`."""
        return self._side_by_side(self._prefer, pairs)

    def _side_by_side(self, judge_one: Callable[[T, _Stop], R], items: Sequence[T]) -> list[R]:
        stop = _Stop()
        if not items:
            return []
        self._connect()
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        try:
            return list(pool.map(lambda item: judge_one(item, stop), items))
        finally:
            # After Ctrl-C: begin nothing more, and do not wait for the calls under way.
            stop.set("the judging was stopped")
            pool.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<AnthropicJudge {self.model}, rubric {self.rubric.name}>"

    def _connect(self) -> None:
        if self._client is not None:
            return
        import anthropic

        # Retries are our own: the SDK obeys any Retry-After, beyond every timeout.
        client = anthropic.Anthropic(api_key=self._key, base_url=self._base_url, max_retries=0)
        # This imports a second's worth of modules, which must not count against the first item's deadline.
        _ = client.messages
        self._client = client

    def _grade(self, item: Answer, stop: _Stop) -> Grade:
        prompt = partial(_user_prompt, item, self.rubric.show_reference)
        try:
            return self._read(item.id, self._reply(item.id, _Question(self._system, prompt, self._schema), stop))
        except _Unusable as unusable:
            return Grade(item.id, None, problem=str(unusable))

    def _prefer(self, pair: PairToCompare, stop: _Stop) -> Preference:
        prompt = partial(pair_prompt, pair, self.rubric.show_reference)
        try:
            reply = self._reply(pair.id, _Question(self._pair_system, prompt, PREFERENCE_SCHEMA), stop)
        except _Unusable as unusable:
            return Preference(pair.id, None, problem=str(unusable))
        return read_preference(pair.id, reply)

    def _reply(self, item_id: str, question: _Question, stop: _Stop) -> object:
        """The JSON that the judge answers, asked for as often as the deadline allows. Raises _Unusable."""
        ends = time.monotonic() + self._deadline
        attempt = 0
        while True:
            if stop.reason:
                raise _Unusable(stop.reason)
            attempt += 1
            try:
                return self._content(self._ask(question, ends))
            except _Repeatable as repeatable:
                failure = str(repeatable)
                wait = repeatable.wait if repeatable.wait is not None else self._wait(item_id, attempt)
            except _Hopeless as hopeless:
                stop.set(str(hopeless))
                raise _Unusable(str(hopeless)) from None
            if attempt == _MAX_ATTEMPTS or time.monotonic() + wait >= ends:
                calls = "call" if attempt == 1 else "calls"
                raise _Unusable(f"{failure}; given up after {attempt} {calls} (deadline {self._deadline:g} s)")
            stop.sleep(wait)

    def _wait(self, item_id: str, attempt: int) -> float:
        # Calls that failed together must not come back together; spread by id, so that runs repeat exactly.
        spread = hashlib.sha256(f"{item_id} {attempt}".encode()).digest()[0] / 255
        return min(_LONGEST_WAIT, self._backoff * 2.0 ** (attempt - 1)) * (0.75 + 0.5 * spread)

    def _ask(self, question: _Question, ends: float) -> bytes:
        """The body of the reply. Raises _Repeatable, _Hopeless or _Unusable."""
        import anthropic

        remaining = ends - time.monotonic()
        if remaining <= 0:
            raise _Unusable(f"the judge did not answer within {self._deadline:g} s")
        try:
            # Read as a stream: the client's timeout is for each read, and a reply that trickles has many.
            with self._client.messages.with_streaming_response.create(
                model=self.model,
                max_tokens=self._max_tokens,
                system=[{"type": "text", "text": question.system, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": question.prompt()}],
                output_config={"format": {"type": "json_schema", "schema": question.schema}},
                timeout=remaining,
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_REPLY:
                        raise _Unusable("the judge's reply is larger than 1 MB")
                    if time.monotonic() > ends:
                        raise _Unusable(f"the judge did not answer within {self._deadline:g} s")
                return bytes(body)
        except anthropic.APIStatusError as error:
            status = error.status_code
            said = self._said(error.api_message)
            if status in _REFUSED_FOR_ALL:
                raise _Hopeless(f"the judge's API refused the call: HTTP {status}{said}") from None
            if status in (408, 409, 429) or status >= 500:
                wait = _retry_after(error.response.headers.get("retry-after"))
                raise _Repeatable(f"the judge's API answered HTTP {status}{said}", wait) from None
            raise _Unusable(f"the judge's API answered HTTP {status}{said}") from None
        except anthropic.APITimeoutError:
            raise _Unusable(f"the judge did not answer within {self._deadline:g} s") from None
        except anthropic.APIConnectionError as error:
            raise _Repeatable(f"the judge's API cannot be reached: {_cause(error)}") from None
        except anthropic.AnthropicError as error:
            raise _Unusable(f"the call to the judge failed: {type(error).__name__}") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise _Unusable(f"the call to the judge failed: {type(error).__name__}") from None
        except Exception as error:
            # Reading the body raises the transport's own exceptions, which the SDK does not translate.
            if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2"):
                raise
            if "Timeout" in type(error).__name__:
                raise _Unusable(f"the judge did not answer within {self._deadline:g} s") from None
            raise _Repeatable(f"the judge's reply broke off: {type(error).__name__}") from None

    def _said(self, message: object) -> str:
        """The server's own words, one short line, without the key should it be quoted in them."""
        if not isinstance(message, str) or not message:
            return ""
        return ": " + " ".join(message.replace(str(self._key), "<secret>").split())[:200]

    def _content(self, body: bytes) -> object:
        """The JSON that the model wrote. Raises _Unusable."""
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            raise _Unusable("the judge's reply is not JSON") from None
        if not isinstance(reply, dict):
            raise _Unusable("the judge's reply is not a message")
        self._check_ending(reply)
        content = reply.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        # By type, not by position: a thinking block may come first.
        text = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise _Unusable("what the judge wrote is not JSON") from None

    def _read(self, item_id: str, graded: object) -> Grade:
        """The grade in a reply. Raises _Unusable."""
        grades = graded.get("grades") if isinstance(graded, dict) else None
        if not isinstance(graded, dict) or not isinstance(grades, dict) or set(grades) != set(self.criteria):
            raise _Unusable(f"the judge's reply has not exactly the grades {', '.join(self.criteria)}")
        for criterion, grade in grades.items():
            if isinstance(grade, bool) or grade not in GRADES:
                raise _Unusable(f"the judge's grade of {criterion} is {grade!r}, not 1, 2, 3, 4 or 5"[:200])
        criteria = {name: float(grades[name]) for name in self.criteria}
        rationale = graded.get("rationale")
        return Grade(
            item_id,
            self.rubric.overall(criteria),
            criteria,
            rationale=rationale if isinstance(rationale, str) else "",
        )

    def _check_ending(self, reply: Mapping[str, Any]) -> None:
        model = reply.get("model")
        reason = reply.get("stop_reason")
        if reason == "refusal":
            details = reply.get("stop_details")
            category = details.get("category") if isinstance(details, dict) else None
            raise _Unusable(f"the judge refused to grade it{f' ({category})' if category else ''}")
        if reason == "max_tokens":
            raise _Unusable(f"the judge's reply was cut off at {self._max_tokens} tokens")
        if reason != "end_turn":
            raise _Unusable(f"the judge's reply ended with stop_reason {reason!r}, not 'end_turn'")
        if not isinstance(model, str) or not re.fullmatch(re.escape(self.model) + r"(-\d{8})?", model):
            raise _Unusable(f"the reply is by the model {model!r}, not {self.model!r}")


class _Question(NamedTuple):
    """What one call asks. prompt: makes the user turn, another one for each call."""

    system: str
    prompt: Callable[[], str]
    schema: Mapping[str, object]


class _Unusable(Exception):
    """This item cannot be judged."""


class _Hopeless(Exception):
    """No item can be judged."""


class _Repeatable(Exception):
    """Worth another call. wait: seconds the server asked to wait, or None."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Stop:
    """Tells all threads to begin no further call."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._event.set()

    def sleep(self, seconds: float) -> None:
        self._event.wait(seconds)


def _system_prompt(rubric: Rubric) -> str:
    parts = [
        "You grade answers. What they are for:",
        rubric.task,
        "Grade each criterion on its own, with the whole number whose description fits best:",
    ]
    for criterion in rubric.criteria:
        lines = [f"{grade}: {criterion.anchors[grade]}" for grade in GRADES]
        parts.append("\n".join([f"Criterion `{criterion.name}`", *lines]))
    if rubric.show_reference:
        parts.append(
            "`reference` is a correct answer to `question`. An answer in other words can be as good; one that"
            " contradicts it in substance is wrong."
        )
    parts.append(f"{MATERIAL_IS_DATA} Write the rationale, at most three sentences, before settling the grades.")
    return "\n\n".join(parts)


def _user_prompt(item: Answer, show_reference: bool) -> str:
    material = {"question": item.question}
    if show_reference and item.reference:
        material["reference"] = item.reference
    material["response"] = item.response
    return marked("Grade `response`.", material)


def _schema(criteria: Sequence[str]) -> dict[str, object]:
    """The JSON Schema of a reply; the rationale comes first, so that grades follow from it."""
    grade = {"type": "integer", "enum": list(GRADES)}
    grades = {
        "type": "object",
        "properties": {name: grade for name in criteria},
        "required": list(criteria),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rationale": {"type": "string"}, "grades": grades},
        "required": ["rationale", "grades"],
        "additionalProperties": False,
    }


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, or None where the header is absent or is a date."""
    try:
        seconds = float(header) if header is not None else -1.0
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < float("inf") else None


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
