"""The unit of systemd: valid, and in step with the settings."""

import shutil
import subprocess
from pathlib import Path

import pytest

from logitserve_service.config.settings import Settings

UNIT = Path(__file__).parents[2] / "deploy/logitserve.service"


def test_the_unit_is_valid(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("NOT TESTED: systemd-analyze is not installed")
    text = UNIT.read_text().replace("/opt/logitserve/bin/logitserve", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert UNIT.name not in done.stderr, done.stderr


def test_the_unit_waits_for_a_drain_and_has_files_for_connections() -> None:
    values = dict(
        line.split("=", 1)
        for line in UNIT.read_text().splitlines()
        if "=" in line[1:] and line[0] != "#"
    )
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert float(values["TimeoutStopSec"]) > defaults["drain_seconds"]
    assert int(values["LimitNOFILE"]) > defaults["max_connections"] + 300
    assert values["ExecReload"].endswith("kill -HUP $MAINPID")
