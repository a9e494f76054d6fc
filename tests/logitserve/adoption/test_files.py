"""Files as people have them: old, out of order, damaged, or not ONNX at all."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from logitserve.cli.main import main
from tests.logitserve.adoption.graphs import (
    GIVEN,
    TOLERANCE,
    adopt,
    adopted,
    assert_refused,
    linear,
    logits,
    pictures,
    save,
    softmax,
    weights,
)


def old(opset: int) -> onnx.ModelProto:
    """As of 2017: initializers are inputs, a Gemm that says that it broadcasts, a test-time BN."""
    bias = np.zeros(3, np.float32)
    broadcast = {"broadcast": 1} if opset < 7 else {}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"], **broadcast),
        helper.make_node("Dropout", ["z"], ["d"], **({"is_test": 1} if opset < 7 else {})),
        helper.make_node("Softmax", ["d"], ["y"]),
    ]
    constants = {"w": weights(72, 3), "b": bias}
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(
            nodes,
            "old",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 3]),
                *(
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
                    for name, value in constants.items()
                ),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=3,
    )
    return model


@pytest.mark.parametrize("opset", [6, 7, 8, 9, 11, 13, 21])
def test_old_files(tmp_path: Path, opset: int) -> None:
    predictor = adopted(save(old(opset), tmp_path), tmp_path / "m", *GIVEN)
    found = predictor.predict(pictures()).probabilities
    assert np.abs(found - softmax(logits(pictures()))).max() < TOLERANCE


def test_initializers_that_are_no_inputs_in_an_old_file(tmp_path: Path) -> None:
    model = old(8)
    del model.graph.input[1:]
    found = adopted(save(model, tmp_path), tmp_path / "m", *GIVEN).predict(pictures())
    assert np.abs(found.probabilities - softmax(logits(pictures()))).max() < TOLERANCE


def test_an_operator_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    model = old(5)
    model.graph.node[2].op_type = "Scan"
    assert_refused(
        adopt(save(model, tmp_path), tmp_path / "m", *GIVEN), "opset 5", "export it again"
    )


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)))
def test_nodes_in_any_order(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("order")
    model = linear(end="Softmax")
    nodes = [model.graph.node[index] for index in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = adopted(save(model, folder), folder / "m", *GIVEN).predict(pictures())
    assert np.abs(found.probabilities - softmax(logits(pictures()))).max() < TOLERANCE


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[1].input[0] = "y"
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *GIVEN), "cycle")


def test_weights_in_another_file(tmp_path: Path) -> None:
    file = tmp_path / "strange.onnx"
    onnx.save(linear(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert adopt(file, tmp_path / "m", *GIVEN).exit_code == 0
    (tmp_path / "weights.bin").write_bytes(b"")
    assert_refused(adopt(file, tmp_path / "m", *GIVEN), "weights.bin", "missing or incomplete")
    (tmp_path / "weights.bin").unlink()
    assert_refused(adopt(file, tmp_path / "m", *GIVEN), "weights.bin", "missing or incomplete")


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


WHOLE = linear().SerializeToString()
ODD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "html": (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
    "html-late": (b"\n\n  <html lang='en'>", "a web page"),
    "text": ("Klassen: Rose, Tulpe, Veilchen äöü".encode(), "is text"),
    "json": (b'{"hello": 1}', "is text"),
    "keras-json": (b'{"class_name": "Functional", "config": {}}', "without its weights"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO"),
    "torch": (zipped("archive/data.pkl", "archive/data/0"), "torch.onnx.export"),
    "torchscript": (zipped("m/code/x.py", "m/constants.pkl"), "torch.onnx.export"),
    "torch-export": (zipped("m/archive_format", "m/models/model.json"), "torch.onnx.export"),
    "torch-old": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", "torch.onnx.export"),
    "pickle": (pickle.dumps({"model": 1}), "skl2onnx"),
    "safetensors": (struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}', "safetensors"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "tf2onnx.convert --tflite"),
    "ort": (b"\x1c\x00\x00\x00ORTM" + bytes(40), "onnxruntime (.ort)"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "language model"),
    "tensorrt": (b"ftrt" + bytes(40), "TensorRT"),
    "coreml": (zipped("Data/com.apple.CoreML/model.mlmodel"), "Core ML"),
    "zip-onnx": (zipped("a/model.onnx"), "unzip"),
    "zip": (zipped("readme.txt"), "a zip archive"),
    "zip-cut": (zipped("a/data.pkl")[:30], "cut off"),
    "npz": (zipped("a.npy"), "numpy arrays"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "numpy array"),
    "lightgbm": (b"tree\nversion=v4\nnum_class=3\n", "convert_lightgbm"),
    "xgboost": (b'{"learner":{"attributes":{}}}', "convert_xgboost"),
    "xgboost-ubj": (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "convert_xgboost"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "gunzip"),
    "bzip2": (b"BZh91AY&SY", "bzip2"),
    "xz": (b"\xfd7zXZ\x00" + bytes(20), "xz archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "Zstandard"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    "rar": (b"Rar!\x1a\x07\x00", "RAR"),
    "tar": (tarred(), "tar xf"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(20), "a picture"),
    "pdf": (b"%PDF-1.7", "PDF"),
    "elf": (b"\x7fELF" + bytes(20), "a program"),
    "zeros": (bytes(1000), "not a valid ONNX file"),
    "ones": (b"\xff" * 1000, "not a valid ONNX file"),
    "noise": (np.random.default_rng(0).bytes(5000), "not a valid ONNX file"),
    "name-only": (b"\x08\x0anot an onnx file", "not a valid ONNX file"),
    "half": (WHOLE[: len(WHOLE) // 2], "not a valid ONNX file"),
    "tail": (WHOLE[len(WHOLE) // 2 :], "not a valid ONNX file"),
    "no-graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "not a valid ONNX file"),
    "tensor": (numpy_helper.from_array(np.zeros(9)).SerializeToString(), "not a valid ONNX file"),
    "utf16": ("a text".encode("utf-16"), "not a valid ONNX file"),
    "hdf5-cut": (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_not_onnx_is_named(tmp_path: Path, kind: str) -> None:
    content, words = ODD[kind]
    (tmp_path / "odd.onnx").write_bytes(content)
    assert_refused(adopt(tmp_path / "odd.onnx", tmp_path / "m", *GIVEN), words)
    assert not (tmp_path / "m").exists()


def without_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[1:3]


def without_weights(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


def without_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def without_inputs(model: onnx.ModelProto) -> None:
    del model.graph.input[:]


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Nonesuch"


def unknown_domain(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "com.example"


def future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def future_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 999


def short_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"\x00"


def text_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def sequence_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def huge_input(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dim.dim_value = 2**40


BROKEN: tuple[Callable[[onnx.ModelProto], None], ...] = (
    *(without_nodes, without_weights, without_outputs, without_inputs, unknown_operator),
    *(unknown_domain, future_opset, future_ir, short_weights, text_input, sequence_input),
    huge_input,
)


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_damaged_graph_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], None], capfd: pytest.CaptureFixture[str]
) -> None:
    model = linear()
    damage(model)
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *GIVEN))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""  # onnxruntime prints its own log past Python


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_byte_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "odd.onnx").write_bytes(bytes(content))
    done = adopt(folder / "odd.onnx", folder / "m", *GIVEN)
    assert done.exit_code in {0, 1}, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


def test_a_folder_without_a_saved_model(tmp_path: Path) -> None:
    assert_refused(adopt(tmp_path, tmp_path / "m", *GIVEN), "folder")


def test_nothing_of_the_exporting_machine_is_published(tmp_path: Path) -> None:
    model = linear()
    model.graph.node[0].doc_string = "File /home/somebody/secret.py"
    assert adopt(save(model, tmp_path), tmp_path / "m", *GIVEN).exit_code == 0
    assert b"somebody" not in (tmp_path / "m/adopted/1/model.onnx").read_bytes()


def test_the_name_is_the_file_s_own_unless_it_is_given(tmp_path: Path) -> None:
    file = save(linear(), tmp_path, "My Flowers (v2).onnx")
    command = ["adopt", str(file), "--models", str(tmp_path / "m"), *GIVEN]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert (tmp_path / "m/my-flowers-v2/1/model.onnx").is_file()
    done = adopt(file, tmp_path / "m", *GIVEN, name="Not A Name")
    assert_refused(done, "'Not A Name' is not a model name")


def test_json_of_the_card_says_where_it_comes_from(tmp_path: Path) -> None:
    card = adopted(save(linear(end="Softmax"), tmp_path), tmp_path / "m", *GIVEN).card
    assert json.loads(card.to_json())["adopted"] == {
        "file": "strange.onnx",
        "ending": "the answers are the softmax of 'z'",
    }
    shown = CliRunner().invoke(main, ["models", "show", "adopted", "--models", str(tmp_path / "m")])
    assert "from strange.onnx: the answers are the softmax of 'z'" in shown.output
