"""Lines of the access log: complete, and not to be forged."""

import os
import re
import select
import time
from datetime import datetime

import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.telemetry.access_log import AccessLog
from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.logs import LogFormat
from logitserve_service.telemetry.request_ids import Trace
from tests.service.telemetry.conftest import exchange

TRACE = Trace("a" * 32, "b" * 16, "c" * 16, sampled=True)


def line(log_format: LogFormat, given: Exchange, seconds: float = 0.00123) -> bytes:
    reader, writer = os.pipe()
    log = AccessLog(writer, log_format)
    log.add(given, seconds)
    log.write()
    try:
        return os.read(reader, 1 << 16)
    finally:
        os.close(reader)
        os.close(writer)


def test_text() -> None:
    said = line("text", exchange(identity=(b"id-1", TRACE))).decode()
    time, rest = said.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == (
        f'INFO {os.getpid()} 127.0.0.1 "POST /models/tiny/predict" 200 312 bytes 0.001230 s '
        f"request_id=id-1 trace_id={'a' * 32} span_id={'c' * 16}\n"
    )
    assert ' - "POST' in line("text", exchange(client=None)).decode()


def test_json() -> None:
    said = orjson.loads(line("json", exchange(identity=(b"id-1", TRACE))))
    assert abs(time.time() - datetime.fromisoformat(said.pop("time")).timestamp()) < 60
    assert said == {
        "level": "info",
        "logger": "logitserve.access",
        "pid": os.getpid(),
        "message": "POST /models/tiny/predict 200",
        "request_id": "id-1",
        "trace_id": "a" * 32,
        "span_id": "c" * 16,
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/models/tiny/predict",
        "route": "/models/{name}/predict",
        "model": "tiny",
        "version": "3",
        "status": 200,
        "seconds": 0.00123,
        "bytes": 312,
    }


def test_a_failure_has_its_problem_and_its_level() -> None:
    said = orjson.loads(line("json", exchange(status=504, problem=("DeadlineError", "late"))))
    assert (said["level"], said["problem"]) == ("warning", "DeadlineError")
    assert " WARNING " in line("text", exchange(status=429)).decode()


@given(st.binary(max_size=2000), st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_strangers_forge_no_line(path: bytes, client: str) -> None:
    hostile = exchange(path=path, client=client)
    text = line("text", hostile).decode()
    assert text.splitlines(keepends=True) == [text]
    assert text[:-1].isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", text[:-1])
    as_json = line("json", hostile)
    assert as_json.count(b"\n") == 1
    assert orjson.loads(as_json)["path"] == path[:512].decode("latin-1")


def test_lines_leave_whole() -> None:
    """Each write fits into a pipe at once, so that lines of several workers do not mix."""
    reader, writer = os.pipe()
    log = AccessLog(writer, "json")
    for number in range(100):
        log.add(exchange(path=b"/%d" % number, size=number), 0.001)
    log.write()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert [orjson.loads(each)["bytes"] for each in pipe] == list(range(100))
    longest = exchange(path=b'"\xff' * 5000, identity=(b"\\" * 128, TRACE), model="\0" * 9999)
    assert len(line("json", longest)) <= select.PIPE_BUF


@pytest.mark.anyio
async def test_lines_are_written_while_it_runs_and_at_the_end() -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer, "text")
    async with log.running():
        log.add(exchange(), 0.001)
        with anyio.fail_after(10):
            await anyio.wait_readable(reader)
        assert os.read(reader, 1 << 16).count(b"\n") == 1
        log.add(exchange(), 0.001)
    assert os.read(reader, 1 << 16).count(b"\n") == 1
    os.close(reader)
    os.close(writer)


def test_a_reader_that_hangs_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    reader, writer = os.pipe()
    log = AccessLog(writer, "text", lost.append)
    for _ in range(2000):
        log.add(exchange(), 0.001)
    log.write()
    assert 0 < sum(lost) < 2000
    assert "its reader does not read" in caplog.text
    assert len(caplog.records) == 1
    os.close(reader)
    os.close(writer)


@pytest.mark.drill
def test_a_log_that_cannot_be_written_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a disk without room
        log = AccessLog(full.fileno(), "text", lost.append)
        for lines in (2, 0, 1):
            for _ in range(lines):
                log.add(exchange(), 0.001)
            log.write()
    assert sum(lost) == 3
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
