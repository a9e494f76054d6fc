"""Write rows of scores as a table, JSON, CSV or Parquet, chunk by chunk."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import IO, Any, NamedTuple, Protocol

from logitserve.errors import ExtraMissingError
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictor
from logitserve.scoring import Row

Write = Callable[[Sequence[Row]], None]


class Labeled(Protocol):
    """The model facts that row writers need: from a card, or from a server's answer."""

    @property
    def head(self) -> str:
        """A value of `Head`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the classes."""
        ...


class Origin(NamedTuple):
    """The model file that rows were scored with."""

    model: str
    version: str
    sha256: str
    """SHA-256 of the model file."""

    @classmethod
    def of(cls, predictor: Predictor) -> "Origin":
        """Return the origin of a predictor's rows."""
        return cls(predictor.card.name, predictor.card.version, predictor.sha256)


class Format(StrEnum):
    """Output format of the rows."""

    TABLE = "table"
    """Text for reading: file, then label and probability."""
    JSON = "json"
    """One array of objects: each has the fields of the server's predictions, and `file`."""
    CSV = "csv"
    """One column per class; with top_k, two columns per rank."""
    PARQUET = "parquet"
    """Typed columns; probabilities are a map. Needs pyarrow."""


@contextmanager
def writer(
    kind: Format,
    out: IO[bytes],
    card: Labeled,
    *,
    names: Sequence[str],
    top_k: int | None,
    origin: Origin | None = None,
) -> Iterator[Write]:
    """Write rows to a stream; leaving the block completes the output.

    Args:
        kind: output format.
        out: binary stream; it is not closed.
        card: card of the model.
        names: names of all files, for the width of the table's first column.
        top_k: the value that the rows were scored with.
        origin: the model file, written into each row; Parquet only.

    Raises:
        ExtraMissingError: the format is Parquet and pyarrow is not installed.
    """
    if kind is Format.PARQUET:
        with _parquet(out, origin) as write:
            yield write
        return
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        match kind:
            case Format.TABLE:
                yield _table(text, card, names, top_k)
            case Format.CSV:
                yield _csv(text, card, top_k)
            case Format.JSON:
                with _json(text) as write:
                    yield write
    finally:
        text.detach()  # closing it would close the underlying stream


def as_dict(row: Row) -> dict[str, Any]:
    """Return the JSON object of a row, without empty fields."""
    if row.scores is None:
        return {"file": row.file, "error": row.error}
    scores = asdict(row.scores)
    for member in ("labels", "known"):
        if scores[member] is None:
            del scores[member]
    return {"file": row.file, **scores}


def _table(out: IO[str], card: Labeled, names: Sequence[str], top_k: int | None) -> Write:
    file_width = max(map(len, [*names, "file"]))
    label_width = max(map(len, [*card.labels, "label"]))
    out.write(f"{'file':{file_width}}  {'label':{label_width}}  probability\n")

    def cells(row: Row) -> str:
        if row.scores is None:
            return f"error: {row.error}"
        shown = row.scores.probabilities
        if top_k is None:
            best = (row.scores.label,)
            wanted = best if row.scores.labels is None else row.scores.labels
            shown = {label: shown[label] for label in wanted}
        pairs = [f"{label:{label_width}}  {value:.6f}" for label, value in shown.items()]
        return "  ".join(pairs) or "–"

    def write(rows: Sequence[Row]) -> None:
        out.writelines(f"{row.file:{file_width}}  {cells(row)}\n" for row in rows)

    return write


def _csv(out: IO[str], card: Labeled, top_k: int | None) -> Write:
    lines = csv.writer(out, lineterminator="\n")
    is_sigmoid = card.head == Head.SIGMOID
    ranks = range(1, 1 + min(top_k or 0, len(card.labels)))
    probabilities = (
        [f"probability_{label}" for label in card.labels]
        if top_k is None
        else [f"{what}_{rank}" for rank in ranks for what in ("label", "probability")]
    )
    added = ["labels", "known"] if is_sigmoid else ["known"]
    lines.writerow(["file", "argmax", "label", "probability", *added, *probabilities, "error"])

    def cells(row: Row) -> list[Any]:
        scores = row.scores
        if scores is None:
            return [row.file, *[""] * (3 + len(added) + len(probabilities)), row.error]
        items = scores.probabilities.items()
        values = list(scores.probabilities.values())
        if top_k is not None:
            values = [cell for pair in items for cell in pair]  # type: ignore[misc]
        holding = [";".join(scores.labels)] if scores.labels is not None else []
        known = "" if scores.known is None else json.dumps(scores.known)
        start = [row.file, scores.argmax, scores.label, scores.probability]
        return [*start, *holding, known, *values, ""]

    def write(rows: Sequence[Row]) -> None:
        lines.writerows(map(cells, rows))

    return write


@contextmanager
def _json(out: IO[str]) -> Iterator[Write]:
    separator = "[\n"

    def write(rows: Sequence[Row]) -> None:
        nonlocal separator
        for row in rows:
            out.write(separator + json.dumps(as_dict(row), ensure_ascii=False, allow_nan=False))
            separator = ",\n"

    yield write
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def pyarrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        ExtraMissingError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ExtraMissingError("parquet", "pyarrow") from error
    return pa, parquet


@contextmanager
def _parquet(out: IO[bytes], origin: Origin | None) -> Iterator[Write]:
    pa, parquet = pyarrow()
    schema = pa.schema(
        {
            "file": pa.string(),
            "argmax": pa.int32(),
            "label": pa.string(),
            "probability": pa.float64(),
            "probabilities": pa.map_(pa.string(), pa.float64()),
            "labels": pa.list_(pa.string()),
            "known": pa.bool_(),
            "error": pa.string(),
        }
    )
    stamp = {} if origin is None else origin._asdict()
    for name in stamp:  # dictionary encoding: all rows share one text
        schema = schema.append(pa.field(name, pa.dictionary(pa.int32(), pa.string())))

    def record(row: Row) -> dict[str, Any]:
        found = as_dict(row)
        if row.scores is not None:
            found["probabilities"] = list(row.scores.probabilities.items())
        return {**found, **stamp}

    with parquet.ParquetWriter(out, schema) as file:
        yield lambda rows: file.write_table(pa.Table.from_pylist(list(map(record, rows)), schema))
