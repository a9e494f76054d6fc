"""onnxruntime, set up once: no telemetry, no more threads than the process may use."""

import math
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from inference.errors import ModelFileError

if TYPE_CHECKING:
    import onnxruntime

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs that this process may use: its affinity mask, capped by the cgroup's quota.

    The host's count is not it: in a container with two CPUs of sixty-four, a pool of sixty-four
    threads spends its time being throttled.

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


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off.

    Since 1.29 it reports to its makers on Linux too, unless this variable is set before the
    import; hence no module here imports onnxruntime at its top.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return import_module("onnxruntime")


def open_session(path: Path, *, threads: int = 1) -> "onnxruntime.InferenceSession":
    """Open a model file on the CPU.

    Args:
        path: an ONNX file.
        threads: threads that one run may use inside an operator.

    Raises:
        ModelFileError: onnxruntime cannot load the file.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the CPU that the HTTP side of the process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        # The path's bytes, not the path: a model file is complete, so it may not refer to others.
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    # onnxruntime's exceptions (Fail, InvalidGraph, InvalidProtobuf, …) share no base but this.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(f"{path} is not an ONNX model that loads: {reason}") from error


def session_metadata(session: "onnxruntime.InferenceSession") -> Mapping[str, str]:
    """The ONNX file's `metadata_props`."""
    metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    return metadata
