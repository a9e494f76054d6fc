"""Convert saved Keras and TensorFlow models to ONNX with tf2onnx. Needs the extra `training`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import onnx

from logitserve.errors import AdoptionError

OPSET: Final = 18

# A separate process: TensorFlow is large, prints a lot, and tf2onnx patches numpy on import.
_CONVERT: Final = f"""
import sys
import keras, tensorflow as tf, tf2onnx
source, target = sys.argv[1:]
def refuse(url, target, *_, **__):
    import os
    what = "wrong weights are" if os.path.exists(target) else "its weights are not"
    sys.exit(f"{{what}} in Keras's cache; fetch them once: curl -fL --create-dirs -o "
             f"'{{target}}' {{url}}")
if source.startswith("keras:"):
    import difflib
    from keras.src.utils import file_utils
    file_utils.urlretrieve = refuse
    name = source.removeprefix("keras:")
    make = getattr(keras.applications, name, None)
    if make is None or isinstance(make, type(sys)):
        known = [one for one in dir(keras.applications) if one[0].isupper()]
        near = difflib.get_close_matches(name, known, 3, 0.3) or known
        sys.exit(f"keras.applications has no {{name}}; near it: {{', '.join(near)}}")
    network = make(weights="imagenet")
    signature = [tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in network.inputs]
    function = tf.function(lambda one: network(one, training=False))
elif tf.io.gfile.isdir(source):
    loaded = tf.saved_model.load(source)
    network = loaded.signatures["serving_default"]
    names, signature = zip(*network.structured_input_signature[1].items())
    function = tf.function(lambda one: list(network(**{{names[0]: one}}).values()))
else:
    network = keras.saving.load_model(source, compile=False)
    signature = [tf.TensorSpec(one.shape, one.dtype) for one in network.inputs]
    function = tf.function(lambda one: network(one, training=False))
if len(signature) != 1:
    sys.exit(f"it has {{len(signature)}} inputs; an image classifier has one")
tf2onnx.convert.from_function(function, list(signature), opset={OPSET},
                             output_path=target)
"""


def convert(path: Path | str) -> onnx.ModelProto:
    """Export a .keras or .h5 file, a SavedModel, or `keras:NAME` of `keras.applications`.

    The weights of `keras:NAME` must be in Keras's cache: nothing is downloaded.

    Raises:
        AdoptionError: TensorFlow or tf2onnx is not installed, or the conversion failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        link = path if isinstance(path, str) else _linked(path, Path(folder))
        target = Path(folder) / "model.onnx"
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(  # noqa: S603 - this interpreter and a constant script
            [sys.executable, "-c", _CONVERT, str(link), str(target)],
            env=quiet,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return onnx.load(target)
    reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
    if "ModuleNotFoundError" in reason:
        raise AdoptionError(
            f"{path} is a Keras or TensorFlow model, and {reason.partition(': ')[2]}: "
            "pip install 'logitserve[training]', or export it to ONNX yourself with tf2onnx"
        )
    raise AdoptionError(f"Keras and tf2onnx cannot export {path}: {reason}")


def _linked(path: Path, folder: Path) -> Path:
    """Link the file or folder under a name that Keras accepts."""
    source = path.parent if path.name == "saved_model.pb" else path
    link = folder / f"source{'' if source.is_dir() else _suffix(source)}"
    link.symlink_to(source.resolve())
    return link


def _suffix(path: Path) -> str:
    """Return the suffix that Keras requires for the content."""
    return ".h5" if path.read_bytes()[:4] == b"\x89HDF" else ".keras"
