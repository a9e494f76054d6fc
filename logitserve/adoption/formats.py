"""Detect the format of a file by its content, and name the way to convert it to ONNX."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from logitserve.errors import AdoptionError

_TORCH: Final = (
    "load the network in Python and export it: model.eval(); "
    "torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), 'model.onnx', "
    "input_names=['image'], dynamic_axes={'image': {0: 'batch'}}, dynamo=False)"
)
_SKLEARN: Final = (
    "load it and export it: from skl2onnx import to_onnx; "
    "open('model.onnx', 'wb').write(to_onnx(model, X[:1].astype('float32')).SerializeToString())"
)
_BOOSTER: Final = (
    "load it as a classifier and export it with onnxmltools: "
    "onnx_model = onnxmltools.convert_{0}(model, "
    "initial_types=[('x', FloatTensorType([None, n_features]))]; "
    "onnxmltools.utils.save_model(onnx_model, 'model.onnx')"
)
_TFLITE: Final = "convert it: python -m tf2onnx.convert --tflite model.tflite --output model.onnx"
_OPEN: Final = "it cannot be converted back: export the original model to ONNX"
_AGAIN: Final = "download the file itself (on a web page: the link 'raw' or 'download')"

_BEGINNINGS: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file", "run: git lfs pull"),
    (0, b"/annex/", "a git-annex pointer, not the file", "run: git annex get FILE"),
    (4, b"TFL3", "a TensorFlow Lite model", _TFLITE),
    (4, b"ORTM", "an onnxruntime (.ort) model", _OPEN),
    (0, b"GGUF", "a GGUF language model", "logitserve serves classifiers of pictures"),
    (0, b"ftrt", "a TensorRT engine", _OPEN),
    (0, b"ptrt", "a TensorRT engine", _OPEN),
    (0, b"\x93NUMPY", "a numpy array", "export the model that it belongs to"),
    (0, b"tree\nversion=", "a LightGBM model", _BOOSTER.format("lightgbm")),
    (0, b'{"learner"', "an XGBoost model", _BOOSTER.format("xgboost")),
    (0, b"{L" + bytes(7) + b"\x07learner", "an XGBoost model", _BOOSTER.format("xgboost")),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it: gunzip or tar xf"),
    (0, b"BZh", "a bzip2 archive", "unpack it: tar xf"),
    (0, b"\xfd7zXZ", "an xz archive", "unpack it: tar xf"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it: tar xf"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it: tar xf"),
    (0, b"\x89PNG", "a picture (PNG)", "give the model first; pictures go to --sample"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", "give the model first; pictures go to --sample"),
    (0, b"%PDF", "a PDF document", "give the ONNX file"),
    (0, b"\x7fELF", "a program or library", "give the ONNX file"),
)
_MEMBERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("constants.pkl", "a TorchScript or PyTorch archive", _TORCH),
    ("data.pkl", "a PyTorch file (torch.save)", _TORCH),
    (".pkl", "a PyTorch file (torch.save)", _TORCH),
    ("archive_format", "a PyTorch program (torch.export)", _TORCH),
    (".mlmodel", "a Core ML package", _OPEN),
    (".onnx", "a zip archive with an ONNX file in it", "unpack it: unzip"),
    (".npy", "numpy arrays", "export the model that they belong to"),
)
_TORCH_MAGIC: Final = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_SNIFFED: Final = 2**12


def is_keras(path: Path) -> bool:
    """Return whether the path is a Keras or TensorFlow model: .keras, .h5, or a SavedModel."""
    if path.is_dir():
        return (path / "saved_model.pb").is_file()
    is_hdf5 = _head(path).startswith(b"\x89HDF\r\n\x1a\n")
    return is_hdf5 or path.name == "saved_model.pb" or "model.weights.h5" in _members(path)


def check(path: Path) -> None:
    """Refuse a file that is certainly not ONNX.

    Raises:
        AdoptionError: the text names the format and how to convert it to ONNX.
        OSError: the file cannot be read.
    """
    head = _head(path)
    if not head:
        raise AdoptionError(f"{path} is empty")
    found = _format(path, head)
    if found is not None:
        what, remedy = found
        raise AdoptionError(f"{path} is {what}, not an ONNX file; {remedy}")


def _format(path: Path, head: bytes) -> tuple[str, str] | None:
    for offset, magic, what, remedy in _BEGINNINGS:
        if head[offset:].startswith(magic):
            return what, remedy
    if head.startswith(b"PK"):
        return _archive(_members(path))
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        is_torch = b"torch" in head or head[2:].startswith(_TORCH_MAGIC)
        return ("a PyTorch file (torch.save)", _TORCH) if is_torch else ("a pickle", _SKLEARN)
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**32:
        return "a safetensors file, weights without a network", _TORCH
    return _text(head)


def _archive(members: Sequence[str]) -> tuple[str, str]:
    for ending, what, remedy in _MEMBERS:
        if any(member.endswith(ending) for member in members):
            return what, remedy
    if members:
        return "a zip archive", "unpack it: unzip"
    return "a zip archive that is empty or cut off", "download or copy it again"


def _text(head: bytes) -> tuple[str, str] | None:
    try:
        text = head[: _SNIFFED - 4].decode("utf-8-sig").lstrip().lower()
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text):
        return None
    if text.startswith(("<!doctype html", "<html")):
        return "a web page", _AGAIN
    if text.startswith("<?xml") and "<net " in text:
        return "an OpenVINO model", _OPEN
    if text.startswith("{") and '"class_name"' in text:
        return "the architecture of a Keras model without its weights", "save the whole model"
    return "text", _AGAIN


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SNIFFED)
