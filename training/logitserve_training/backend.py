"""TensorFlow and Keras, imported once and quietly: `from …backend import keras, tf`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from logitserve.inference.runtime import available_cpus


@contextmanager
def _native_stderr_discarded() -> Iterator[None]:
    """Discard what C++ code writes to file descriptor 2.

    `TF_CPP_MIN_LOG_LEVEL` does not reach the lines that TensorFlow 2.21 writes before its
    logging is initialized (oneDNN, missing CUDA drivers). Python's exceptions still get out.
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
    tf.config.list_logical_devices()  # initializes the devices, which is when CUDA is looked for

__all__ = ["keras", "tf"]


def make_deterministic(seed: int) -> None:
    """Seed Python's, NumPy's and TensorFlow's generators, and let no kernel add in any order.

    The same seed then gives the same weights on the same machine.
    """
    keras.utils.clear_session()  # layers are numbered from 0 again, so names repeat too
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
