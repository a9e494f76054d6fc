"""Schemathesis, with all its checks, against the service and its own OpenAPI document."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.process import Server

ROOT = Path(__file__).parents[2]


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    tester = Path(sys.executable).with_name("st")
    done = subprocess.run(
        [
            *(tester, "run", f"{server.url}/openapi.json", "--checks", "all"),
            *("--max-examples", "10", "--seed", "1", "--generation-database", "none"),
            *("--phases", "examples,coverage,fuzzing", "--no-color"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    (tmp_path / "report.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
