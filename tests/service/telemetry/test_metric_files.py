"""What a worker counted, seen by another process while it lives and when it has been killed."""

import subprocess
import sys
from pathlib import Path

from prometheus_client.mmap_dict import mmap_key

from logitserve_service.telemetry.metric_files import Kind, WorkerFiles, merged

COUNTER: Kind = "counter"
GAUGE_SUM: Kind = "gauge_livesum"
KEY = {kind: mmap_key(kind, kind, ["a"], ["b"], "help") for kind in (COUNTER, GAUGE_SUM)}

WORKER = f"""
import sys
from pathlib import Path
from logitserve_service.telemetry.metric_files import WorkerFiles

files = WorkerFiles(Path(sys.argv[1]))
for kind, key in {KEY!r}.items():
    values, (place,) = files.places(kind, [key])
    values[place] += 1
print("counted", flush=True)
sys.stdin.read()
"""


def worker(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def counted(folder: Path) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in merged(folder)}


def test_counters_stay_and_gauges_go(tmp_path: Path) -> None:
    with worker(tmp_path) as first, worker(tmp_path) as second:
        assert counted(tmp_path) == {COUNTER: 2, GAUGE_SUM: 2}
        first.kill()
        first.wait()
        assert counted(tmp_path) == {COUNTER: 2, GAUGE_SUM: 1}
        with worker(tmp_path) as third:
            assert counted(tmp_path) == {COUNTER: 3, GAUGE_SUM: 2}
            third.kill()
        second.kill()
    assert counted(tmp_path) == {COUNTER: 3}
    # The third counted on in the files of the first.
    assert len(list(tmp_path.glob(f"{COUNTER}_*.db"))) == 2


def test_earlier_places_hold_when_a_file_grows(tmp_path: Path) -> None:
    files = WorkerFiles(tmp_path)
    values, (place,) = files.places(COUNTER, [KEY[COUNTER]])
    keys = [mmap_key("many", "many", ["number"], [str(number)], "help") for number in range(2000)]
    files.places(COUNTER, keys)
    values[place] += 7
    files.close()
    found = {sample.name: sample.value for metric in merged(tmp_path) for sample in metric.samples}
    assert found[COUNTER] == 7
