"""The requests of `make bench`, and what its table makes of the rounds."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import forms, load, report
from benchmarks.load import Measured, Request
from benchmarks.servers import ASGI, BARE, BY_HAND, MOSEC, OURS

RAW = forms.ROWS[0]


def measured(per_second: int, p99_ms: float = 1.0) -> Measured:
    return Measured(per_second, 1.0, 0.5, p99_ms, generator=0.25, server=1.0)


@pytest.mark.parametrize("row", forms.ROWS, ids=lambda row: f"{row.form.title}, {row.label}")
def test_every_request_has_another_image(row: forms.Row) -> None:
    requests = row.requests(row.form.ours, 4)
    assert len({request.body for request in requests}) == 4
    assert {request.path for request in requests} == {
        row.form.ours.replace("{model}", row.named)  # by name exactly where there is one
    }


def test_rows_differ() -> None:
    assert len({(row.form.title, row.label) for row in forms.ROWS}) == len(forms.ROWS)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b'{"predictions": [{"argmax": 1, "probabilities": {"0": 0.25, "1": 0.75}}]}'),
        ({}, b'{"argmax": 1, "probabilities": {"0": 0.25, "1": 0.75}}'),
        ({}, b'{"predictions": [[0.25, 0.75]]}'),
        ({}, b'{"outputs": [{"name": "probabilities", "data": [0.25, 0.75]}]}'),
        (
            {"inference-header-content-length": "2"},
            b"{}" + np.array([0.25, 0.75], np.float32).tobytes(),
        ),
    ],
)
def test_answers_of_every_form_are_read(headers: dict[str, str], body: bytes) -> None:
    assert forms.probabilities(headers, body) == {0: 0.25, 1: 0.75}


def test_the_load_generator_is_given_heads_and_bodies(tmp_path: Path) -> None:
    plain = Request("/predict", b"abc", {"Content-Type": "image/png"})
    numbered = Request("/predict", b"abc", numbered=True)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    typed = head + b"Content-Type: image/png\r\n\r\n"
    assert load.write(tmp_path / "requests", [plain, numbered]).read_bytes() == (
        b"%d 3 0\n%sabc%d 3 1\n%sabc" % (len(typed), typed, len(head), head)
    )


def test_ratios_are_those_of_a_round() -> None:
    rounds = [
        {OURS: measured(80, 2.0), BY_HAND: measured(10, 8.0), MOSEC: measured(40)},
        {OURS: measured(60, 1.0), BY_HAND: measured(10, 2.0), MOSEC: measured(50)},
        {OURS: measured(90, 1.0), BY_HAND: measured(30, 1.0), MOSEC: measured(45)},
    ]
    (row,) = report.rows({RAW: rounds})
    assert (row["ratio"], row["p99_ratio"], row["mosec_ratio"]) == (6, 0.5, 2)
    assert row["servers"][BY_HAND]["per_second"] == 10
    assert row["servers"][MOSEC]["ratio"] == 4


def test_the_table_has_every_server() -> None:
    rounds = [{OURS: measured(80), ASGI: measured(50), BY_HAND: measured(10), BARE: measured(100)}]
    about = {"rounds": 1, "seconds": 3, "connections": 32, "images": 512}
    document = {"about": about, "rows": report.rows({RAW: rounds}), "others": []}
    said = report.text(json.loads(json.dumps(document)))
    assert "| raw PNG | default | 80 | 10 | **8.00×** |" in said
    assert "| 7× | 5.00× |  |" in said  # mosec was not measured
    assert "it could send 400/s" in said
