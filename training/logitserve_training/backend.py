"""Import TensorFlow and Keras once, without log output: `from …backend import keras, tf`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from logitserve.inference.runtime import available_cpus


@contextmanager
def _native_stderr_discarded() -> Iterator[None]:
    """Discard output of C++ code to file descriptor 2.

    `TF_CPP_MIN_LOG_LEVEL` does not affect lines that TensorFlow 2.21 writes before its logging is
    initialized (oneDNN, missing CUDA drivers). Python exceptions are still shown.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

with _native_stderr_discarded():
    import keras
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(available_cpus())
    tf.config.list_logical_devices()  # initializes the devices; TensorFlow searches CUDA then

__all__ = ["keras", "tf"]


def make_deterministic(seed: int) -> None:
    """Seed Python's, NumPy's and TensorFlow's generators, and enable deterministic kernels.

    Equal seeds then give equal weights on the same machine.
    """
    keras.utils.clear_session()  # restarts the numbering of layers, so that names repeat
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
