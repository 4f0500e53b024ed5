"""The way to a server that speaks Anthropic's Messages API: one client, and what can go wrong told apart."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from harness.errors import JudgeError

__all__ = [
    "DEFAULT_BASE_URL",
    "CallProblem",
    "Hopeless",
    "MessagesApi",
    "Repeatable",
    "Secret",
    "Stop",
    "Unusable",
    "backoff",
    "checked_url",
    "is_private",
]

DEFAULT_BASE_URL = "https://api.anthropic.com"

_LONGEST_WAIT = 30.0
_LONGEST_REASON = 400  # characters
_REFUSED_FOR_ALL = frozenset({401, 402, 403, 404})  # the next item would meet the same
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class Secret(str):
    """A string that does not show itself in a repr, so that no traceback with locals prints it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"


class CallProblem(Exception):
    """A call gave nothing to use. billed: whether it may cost money all the same. sent: whether it left at all."""

    def __init__(self, reason: str, *, billed: bool = False, sent: bool = True) -> None:
        super().__init__(reason)
        self.billed = billed
        self.sent = sent


class Unusable(CallProblem):
    """This item cannot be graded."""


class Hopeless(CallProblem):
    """No item can be graded. status: of the server's reply."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class Repeatable(CallProblem):
    """Worth another call. wait: seconds the server asked to wait, or None."""

    def __init__(self, reason: str, wait: float | None = None, *, billed: bool = False, sent: bool = True) -> None:
        super().__init__(reason, billed=billed, sent=sent)
        self.wait = wait


class Stop:
    """Tells all threads to begin no further call."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.event.set()


class MessagesApi:
    """api_key: sent to base_url only; in no message, log line or repr.

    base_url: where the API is; the environment's ANTHROPIC_BASE_URL is not looked at.
    Raises JudgeError for a key or an address that cannot be one, without quoting the key.
    """

    def __init__(self, api_key: str, base_url: str = DEFAULT_BASE_URL) -> None:
        api_key = Secret(api_key.strip())
        if not api_key or not api_key.isascii() or not api_key.isprintable():
            # An HTTP library would quote the key in its complaint.
            raise JudgeError("the judge's API key is empty or has characters that no key has")
        self.base_url = checked_url(base_url)
        self._key = api_key
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """The server's host, port and path, or "" where it is Anthropic's."""
        return "" if self.base_url == DEFAULT_BASE_URL else self.base_url.partition("://")[2]

    def __repr__(self) -> str:
        return f"<MessagesApi {self.base_url}>"

    def client(self) -> Any:
        """The SDK's client, made on first use; it keeps connections, and threads share it."""
        with self._lock:
            if self._client is None:
                import anthropic

                # Retries are our own: the SDK obeys any Retry-After, beyond every timeout.
                client = anthropic.Anthropic(api_key=self._key, base_url=self.base_url, max_retries=0)
                # These import a second's worth of modules, which must not count against the first item's deadline.
                _ = client.messages.batches
                self._client = client
            return self._client

    def clean(self, text: str) -> str:
        """`text` without the key, should a server quote it."""
        return text.replace(str(self._key), "<secret>")

    def said(self, problem: CallProblem) -> str:
        """Why an item has no grade: short, and without the key; in this order, or half of it could be left."""
        text = self.clean(str(problem))
        return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"

    @contextlib.contextmanager
    def problems(self, late: str) -> Iterator[None]:
        """Turns what the SDK and its transport raise into a CallProblem. late: what to say of a timeout.

        Whatever else they raise becomes one too: their frames hold the key, and a traceback can print them.
        """
        import anthropic

        try:
            yield
        except CallProblem:
            raise
        except anthropic.APIStatusError as error:
            raise self._status(error.status_code, error.api_message, error.response.headers) from None
        except anthropic.APITimeoutError:
            raise Unusable(late, billed=True) from None
        except anthropic.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            sent = not cause.startswith("Connect")
            raise Repeatable(f"the judge's API cannot be reached: {cause}", billed=sent, sent=sent) from None
        except Exception as error:
            # Reading a body raises the transport's own exceptions, which the SDK does not translate.
            kind = type(error).__name__
            if type(error).__module__.split(".")[0] not in _TRANSPORTS:
                raise Unusable(f"the call to the judge failed: {kind}", billed=True) from None
            if "Timeout" in kind:
                raise Unusable(late, billed=True) from None
            raise Repeatable(f"the judge's reply broke off: {kind}", billed=True) from None

    def read(self, response: Any, *, ends: float, late: str, largest: int) -> bytes:
        """The body of a response that is read as a stream.

        The client's timeout is for each read, and a reply that trickles has many.
        Raises Unusable after the time `ends`, and for more than `largest` bytes.
        """
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > largest:
                raise Unusable(f"the judge's reply is larger than {largest / 1e6:g} MB", billed=True)
            if time.monotonic() > ends:
                raise Unusable(late, billed=True)
        return bytes(body)

    def _status(self, status: int, message: object, headers: Any) -> CallProblem:
        said = ""
        if isinstance(message, str) and message:
            said = ": " + " ".join(self.clean(message).split())[:200]
        if status in _REFUSED_FOR_ALL:
            return Hopeless(f"the judge's API refused the call: HTTP {status}{said}", status)
        if status in (408, 409, 429) or status >= 500:
            wait = _retry_after(headers.get("retry-after"))
            return Repeatable(f"the judge's API answered HTTP {status}{said}", wait)
        return Unusable(f"the judge's API answered HTTP {status}{said}")


def backoff(first: float, attempt: int, item_id: str) -> float:
    """Seconds before the repeat that follows attempt 1, 2, ...: `first`, doubling, at most half a minute.

    Calls that failed together must not come back together; spread by id, so that runs repeat exactly.
    """
    spread = hashlib.sha256(f"{item_id} {attempt}".encode()).digest()[0] / 255
    return min(_LONGEST_WAIT, first * 2.0 ** (attempt - 1)) * (0.75 + 0.5 * spread)


def checked_url(base_url: str) -> str:
    """The address without a slash at its end. Raises JudgeError for one that cannot be used."""
    found = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(found)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or not found.isprintable():
        raise JudgeError(f"the judge's base URL must be like https://host:port, got {_hidden(found)!r}")
    if parts.username is not None or parts.password is not None:
        raise JudgeError("the judge's base URL must have no user and no password in it; reports show the address")
    if parts.query or parts.fragment:
        raise JudgeError(f"the judge's base URL must end with its path, got {_hidden(found)!r}")
    return found


def is_private(base_url: str) -> bool:
    """Whether nobody else can read what is sent to this address: over TLS, or within this machine."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" or parts.hostname in _THIS_MACHINE


def _hidden(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//<secret>@", url)[:100]


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait, or None where the header is absent or is a date."""
    try:
        seconds = float(header) if header is not None else -1.0
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < float("inf") else None
