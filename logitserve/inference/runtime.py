"""Set up onnxruntime once: without telemetry, and with no more threads than available CPUs."""

import functools
import math
import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from logitserve.inference.errors import ModelFileError
from logitserve.inference.model_file import Reading, read

if TYPE_CHECKING:
    import onnxruntime

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """Return the CPUs that this process may use: its affinity mask, capped by the cgroup's quota.

    Args:
        cgroup: mount point of the cgroup file system (version 2, or `cpu` below it for version 1).
    """
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_cpus(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota_cpus(cgroup: Path) -> float | None:
    """Return the cgroup's CPU quota in CPUs, or None without a quota."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None


@functools.cache
def load_onnxruntime() -> ModuleType:
    """Import onnxruntime without telemetry, and with one memory arena for all sessions.

    Since 1.29 it sends telemetry on Linux too, unless this variable is set before the import; so
    no module imports onnxruntime at its top.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    ort = import_module("onnxruntime")
    ort.set_default_logger_severity(4)
    arena = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(arena, None)
    return ort


def open_session(
    path: Path, *, threads: int = 1, optimized: bool = True
) -> "onnxruntime.InferenceSession":
    """Open an ONNX file on the CPU.

    Raises: see `read` and `open_reading`.
    """
    with read(path) as reading:
        return open_reading(reading, threads=threads, optimized=optimized)


def open_reading(
    reading: Reading, *, threads: int = 1, optimized: bool = True
) -> "onnxruntime.InferenceSession":
    """Open the bytes of an ONNX file on the CPU; `threads` is for each operator.

    If not `optimized`, the graph is run without fusions, so sums have another order.

    Raises:
        ModelFileError: onnxruntime cannot load the file; the text has no path.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread pool uses the CPU that the HTTP side of the process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Runs allocate from the one arena of the process, so a further model costs little beyond its
    # file (`benchmarks/many_models.py`); weights are outside it, and are freed with the model.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.log_severity_level = 4  # errors are raised, and need not be logged too
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # A model file has no external data: an in-memory file has no folder.
        return ort.InferenceSession(str(reading.path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions (Fail, InvalidGraph, InvalidProtobuf, …) have no other base class.
    except Exception as error:
        reason = _without_places(str(error), reading) or type(error).__name__
        raise ModelFileError(f"onnxruntime cannot load the file: {reason}") from error


_SOURCE_PLACE = re.compile(r"\S*/onnxruntime/\S+:\d+ |\b\w+\.(?:cc|h):\d+ ")


def _without_places(text: str, reading: Reading) -> str:
    """Return the first line of onnxruntime's text, without source and memory locations."""
    line = text.partition("\n")[0].replace(str(reading.path), "the file")
    return _SOURCE_PLACE.sub("", line)


def session_metadata(session: "onnxruntime.InferenceSession") -> Mapping[str, str]:
    """Return the ONNX file's `metadata_props`."""
    metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    return metadata
