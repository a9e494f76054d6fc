import os
import subprocess
import sys
from pathlib import Path

import pytest

from logitserve.inference.runtime import available_cpus

AFFINITY = len(os.sched_getaffinity(0))


def test_affinity_counts_where_there_is_no_quota(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == AFFINITY
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path) == AFFINITY


@pytest.mark.parametrize(("quota", "cpus"), [("50000", 1), ("100000", 1), ("9900000", AFFINITY)])
def test_the_quota_of_cgroup_2_caps(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert available_cpus(tmp_path) == cpus


def test_the_quota_of_cgroup_1_caps(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert available_cpus(tmp_path) == AFFINITY


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    program = (
        "import sys; from logitserve.inference import predictor, runtime; "
        "assert 'onnxruntime' not in sys.modules; runtime.load_onnxruntime(); "
        "import os; assert 'onnxruntime' in sys.modules; "
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "1"
