"""onnxruntime, set up once: no telemetry, no more threads than the process may use."""

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
    """CPUs that this process may use: its affinity mask, capped by the cgroup's quota.

    Args:
        cgroup: where the cgroup file system is mounted (version 2, or version 1's `cpu` below it).
    """
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_cpus(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota_cpus(cgroup: Path) -> float | None:
    """The cgroup's CPU quota in CPUs, or None where there is none."""
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
    """Import onnxruntime with its telemetry off, and one arena for all sessions of the process.

    Since 1.29 it reports to its makers on Linux too, unless this variable is set before the
    import; hence no module here imports onnxruntime at its top.
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

    Raises: as `read` and `open_reading`.
    """
    with read(path) as reading:
        return open_reading(reading, threads=threads, optimized=optimized)


def open_reading(
    reading: Reading, *, threads: int = 1, optimized: bool = True
) -> "onnxruntime.InferenceSession":
    """Open the bytes that were read of an ONNX file, on the CPU; an operator may use the threads.

    Without `optimized`, the graph is run as it stands, its numbers added in another order.

    Raises:
        ModelFileError: onnxruntime cannot load it; the text names no file.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the CPU that the HTTP side of the process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What a run needs comes from the process's one arena, so that a model more costs little beyond
    # its file (`benchmarks/many_models.py`); weights come from none, and go when the model goes.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # A model file is complete: beside a file in memory there are no others to refer to.
        return ort.InferenceSession(str(reading.path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions (Fail, InvalidGraph, InvalidProtobuf, …) share no base but this.
    except Exception as error:
        reason = _without_places(str(error), reading) or type(error).__name__
        raise ModelFileError(f"the file is not an ONNX model that loads: {reason}") from error


_SOURCE_PLACE = re.compile(r"\S*/onnxruntime/\S+:\d+ |\b\w+\.(?:cc|h):\d+ ")


def _without_places(text: str, reading: Reading) -> str:
    """The first line of onnxruntime's text, less where its sources and our memory are."""
    line = text.partition("\n")[0].replace(str(reading.path), "the file")
    return _SOURCE_PLACE.sub("", line)


def session_metadata(session: "onnxruntime.InferenceSession") -> Mapping[str, str]:
    """The ONNX file's `metadata_props`."""
    metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    return metadata
