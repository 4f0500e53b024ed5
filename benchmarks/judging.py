"""How fast answers are judged: by a language model that takes a second, from the store, and by the stand-in.

    python benchmarks/judging.py
    python benchmarks/judging.py --judgements 100 --latency 0.2 --concurrency 20

The language model is a server on loopback, in a process of its own, that speaks the Messages API and answers each call
after the latency. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from _common import ROOT, BenchmarkError, add_date, machine_line, table

TARGET_RATIO = 1.15
TARGET_WARM = 1.0  # seconds
TARGET_STANDIN = 60.0  # seconds, for 1,000 answers

_DATA = ROOT / "fixtures" / "data" / "postgres_assistant"
_RUBRICS = ROOT / "fixtures" / "rubrics"
_HEADERS = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


# ---- The server


def reply_to(body: bytes) -> bytes:
    """A Messages API reply that grades every criterion of the call's schema with 4."""
    call = json.loads(body)
    schema = call["output_config"]["format"]["schema"]
    grades = dict.fromkeys(schema["properties"]["grades"]["required"], 4)
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": call["model"],
        "content": [{"type": "text", "text": json.dumps({"rationale": "Because.", "grades": grades})}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 900, "output_tokens": 60},
    }
    return json.dumps(message).encode()


async def serve(latency: float) -> None:
    """Answer until the process ends; the first line printed is the port. GET gives the number of calls."""
    calls = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    body = str(calls).encode()
                else:
                    length = _HEADERS.search(head)
                    body = reply_to(await reader.readexactly(int(length[1]) if length else 0))
                    calls += 1
                    await asyncio.sleep(latency)
                answer = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(answer.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server(latency: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port.isdigit():
                raise BenchmarkError("the server did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def calls_of(url: str) -> int:
    """How many calls the server has had."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return int(response.read())


# ---- What is judged


class Item(NamedTuple):
    id: str
    question: str
    reference: str
    response: str


def items(count: int, data: Path = _DATA) -> list[Item]:
    """Answers of the length of postgres_assistant's, each another text, and so is each reference."""
    lines = [line for name in ("train", "test") for line in (data / f"{name}.jsonl").read_text().splitlines()]
    turns = [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines]
    made = []
    for number in range(count):
        (_, question, reference), (_, _, other) = turns[number % len(turns)], turns[(7 * number + 1) % len(turns)]
        made.append(Item(f"item-{number}", question, f"{reference} ({number})", f"{other} [{number}]"))
    return made


# ---- Measuring


class Judged(NamedTuple):
    """Seconds, calls that the server had, and how many answers have a grade."""

    seconds: float
    calls: int
    graded: int


def by_model(count: int, *, latency: float, concurrency: int) -> tuple[float, Judged, Judged]:
    """Seconds for loading the SDK, the first judging, and the same again with what the first one stored."""
    from harness.judging import AnthropicJudge, load_rubric
    from harness.pipeline.grading import StoredGrades
    from harness.store import Store

    rubric = load_rubric(_RUBRICS / "postgres_assistant.yaml")
    asked = items(count)
    with server(latency) as url, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        AnthropicJudge(rubric, "key", base_url=url)._api.client()
        loading = time.perf_counter() - started
        runs = []
        for _ in range(2):
            before = calls_of(url)
            judge = AnthropicJudge(rubric, "key", base_url=url, concurrency=concurrency)
            stored = StoredGrades(judge, rubric.digest, judge.prompt_version, Store(Path(folder)))
            started = time.perf_counter()
            grades = stored.grade(asked)
            seconds = time.perf_counter() - started
            runs.append(Judged(seconds, calls_of(url) - before, sum(grade.score == 4.0 for grade in grades)))
    return loading, runs[0], runs[1]


def by_standin(count: int) -> Judged:
    """The stand-in, loading included."""
    from harness.judging import StandInJudge

    asked = items(count)
    started = time.perf_counter()
    grades = StandInJudge().grade(asked)
    return Judged(time.perf_counter() - started, 0, sum(grade.score is not None for grade in grades))


def model_rows(count: int, ideal: float, loading: float, cold: Judged, warm: Judged) -> list[tuple[str, ...]]:
    """Rows of the table; a run that lost a grade, or made a call too many, is no result."""
    if cold.graded != count or warm.graded != count:
        raise BenchmarkError(f"{cold.graded} and {warm.graded} of {count} answers were graded")
    if cold.calls != count or warm.calls:
        raise BenchmarkError(f"{cold.calls} and {warm.calls} calls were made for {count} answers")
    ratio = cold.seconds / ideal
    return [
        (
            f"{count} judgements by a model, s (ideal {ideal:g})",
            f"{cold.seconds:.2f}",
            f"at most {TARGET_RATIO:g} times the ideal",
            f"{'met' if ratio <= TARGET_RATIO else 'missed'}, {ratio:.3f} times",
        ),
        ("loading the SDK before, once a process, s", f"{loading:.2f}", "", ""),
        (
            "the same again from the store, s (no call)",
            f"{warm.seconds:.3f}",
            f"at most {TARGET_WARM:g} s",
            "met" if warm.seconds <= TARGET_WARM else "missed",
        ),
    ]


def standin_row(count: int, judged: Judged) -> tuple[str, ...]:
    """A row of the table; the target is for 1,000 answers."""
    if judged.graded != count:
        raise BenchmarkError(f"{judged.graded} of {count} answers were graded by the stand-in")
    target = TARGET_STANDIN * count / 1_000
    result = "met" if judged.seconds <= target else "missed"
    return f"{count:,} answers by the stand-in, s", f"{judged.seconds:.1f}", f"at most {target:g} s", result


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="judging.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--judgements", type=int, default=500, help="answers for the model (500)")
    parser.add_argument("--latency", type=float, default=1.0, help="seconds that the model takes (1)")
    parser.add_argument("--concurrency", type=int, default=50, help="calls under way at a time (50)")
    parser.add_argument("--answers", type=int, default=1_000, help="answers for the stand-in (1,000); 0 leaves it out")
    add_date(parser)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.serve:
        asyncio.run(serve(chosen.latency))
        return 0
    from harness.pipeline.identity import provenance

    ideal = -(-chosen.judgements // chosen.concurrency) * chosen.latency
    try:
        measured = by_model(chosen.judgements, latency=chosen.latency, concurrency=chosen.concurrency)
        rows = model_rows(chosen.judgements, ideal, *measured)
        if chosen.answers:
            rows.append(standin_row(chosen.answers, by_standin(chosen.answers)))
    except BenchmarkError as error:
        print(f"judging.py: {error}", file=sys.stderr)
        return 1
    print(f"Concurrency {chosen.concurrency}, {chosen.latency:g} s a call:")
    print(f"\n{machine_line(provenance(ROOT, os.environ), chosen.date)}\n")
    print(table(("figure", "measured:", "target", "result"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
