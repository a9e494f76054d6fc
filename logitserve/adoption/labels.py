"""Read labels from the option itself, a file, the graph or its metadata."""

import ast
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from logitserve.errors import AdoptionError

Labels = tuple[str, ...]

_ENCODINGS: Final = ("utf-8-sig", "utf-16", "latin-1")
_CLASS_LABELS: Final = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_KEYS: Final = ("id2label", "names", "classes", "class_names", "labels", "categories", "vocab")
"""Keys of labels in JSON files and metadata: Transformers, Ultralytics, fastai and others."""
_HEADERS: Final = frozenset({"label", "labels", "name", "class", "class_name", "category"})


def given(text: str) -> Labels:
    """Return the labels of the option: a file's, or the text's own, separated by commas.

    Raises:
        AdoptionError: the file cannot be read or is empty, or a label occurs twice.
    """
    path = Path(text)
    try:
        found = _of_file(path) if path.is_file() else None
    except OSError as error:  # also if the text is too long for a file name
        if "," not in text:
            raise AdoptionError(f"--labels {text} cannot be read: {error.strerror}") from error
        found = None
    if found is None:
        if "," not in text:
            raise AdoptionError(
                f"--labels {text} is neither a file nor several labels separated by commas"
            )
        found = tuple(text.split(","))
    labels = tuple(label.strip() for label in found)
    if not labels:
        raise AdoptionError(f"--labels {text} holds no labels")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise AdoptionError(
            f"--labels holds {len(labels)} labels, but only {len(set(labels))} different ones: "
            f"{twice[0]!r} occurs {labels.count(twice[0])} times"
        )
    return labels


def _of_file(path: Path) -> Labels:
    content = path.read_bytes()
    for encoding in _ENCODINGS:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            break
    else:
        raise AdoptionError(f"--labels {path} is not a text file")
    try:
        found = _of_data(json.loads(text))
    except json.JSONDecodeError:
        if path.suffix.lower() in {".csv", ".tsv"}:
            return _of_table(text)
    else:
        if not found:
            raise AdoptionError(
                f"--labels {path} is JSON of an unknown form; it must be a list of labels, or a "
                'dictionary such as {"0": "cat"}, {"cat": 0} or {"id2label": …}'
            )
        return found
    lines = [line for line in text.splitlines() if line.strip()]
    return tuple(lines[0].split(",") if len(lines) == 1 else lines)


def _of_data(data: Any) -> Labels | None:
    """Parse JSON: a list, `{"0": "cat"}`, `{"0": ["n0", "cat"]}`, `{"cat": 0}`, or one in a key."""
    if isinstance(data, Mapping):
        for key in _KEYS:
            if isinstance(data.get(key), Mapping | list):
                return _of_data(data[key])
        numbered = _numbered(data)
        return None if numbered is None else _of_data(numbered)
    if not isinstance(data, list):
        return None
    names = [_name(entry) for entry in data]
    return tuple(map(str, names)) if all(isinstance(name, str | int) for name in names) else None


def _name(entry: Any) -> Any:
    if isinstance(entry, list) and entry:
        return entry[-1]
    return entry.get("name", entry.get("label")) if isinstance(entry, Mapping) else entry


def _numbered(data: Mapping[Any, Any]) -> list[Any] | None:
    """Return the values in the order of their numbers, which are the keys or the values."""
    for pairs in (data.items(), [(value, key) for key, value in data.items()]):
        try:
            ordered = {int(number): name for number, name in pairs}
        except (TypeError, ValueError):
            continue
        first = min(ordered, default=0)
        if first in (0, 1) and sorted(ordered) == list(range(first, first + len(data))):
            return [ordered[number] for number in sorted(ordered)]
        raise AdoptionError(
            f"--labels numbers {len(data)} labels from {first} to {max(ordered, default=0)}; "
            f"the numbers must be 0 to {len(data) - 1}, each once"
        )
    return None


def _of_table(text: str) -> Labels:
    """Parse CSV: a column of labels, optionally one of numbers, with or without a header."""
    dialect = csv.Sniffer().sniff(text, delimiters=",;\t") if set(",;\t") & set(text) else "excel"
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), dialect) if row]
    header = [cell.lower() for cell in rows[0]]
    column = next((index for index, name in enumerate(header) if name in _HEADERS), None)
    body = rows if column is None else rows[1:]
    if len(rows) == 1 and column is None:
        return tuple(rows[0])
    numbers = [index for index in range(len(body[0])) if all(row[index].isdigit() for row in body)]
    if column is None:
        column = next((i for i in range(len(body[0])) if i not in numbers), 0)
    if numbers and numbers[0] != column:
        body = sorted(body, key=lambda row: int(row[numbers[0]]))
    return tuple(row[column] for row in body)


def of_model(model: onnx.ModelProto) -> Labels | None:
    """Return the labels in the file: in scikit-learn's operators or in the metadata."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in reversed(model.graph.node):  # earlier nodes belong to parts, as in one-vs-rest
        values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        for name in _CLASS_LABELS:
            if values.get(name):
                return _texts(values[name])
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            return _texts(onnx.numpy_helper.to_array(constants[node.input[0]]).flat)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for key in _KEYS:
        if key in metadata and (found := _of_metadata(metadata[key])):
            return found
    return None


def _of_metadata(text: str) -> Labels | None:
    for read in (json.loads, ast.literal_eval):  # Ultralytics writes Python literals
        try:
            return _of_data(read(text))
        except (ValueError, SyntaxError, AdoptionError):
            continue
    return tuple(map(str.strip, text.split(","))) if "," in text else None


def _texts(values: Iterable[object]) -> Labels:
    return tuple(one.decode() if isinstance(one, bytes) else str(one) for one in values)
