"""docs/scale.md says what the commands that it names print."""

from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.autoscaling import RESULTS
from benchmarks.markdown import percent, table

DOCUMENT = (Path(__file__).parents[2] / "docs/scale.md").read_text()


@pytest.mark.parametrize("rows", scale.TABLES)
def test_each_table_is_what_the_command_prints(rows: scale.Table) -> None:
    assert table(rows()) in DOCUMENT, f"python -m benchmarks.scale prints another {rows.__name__}"


def test_tables_of_the_simulation_are_those_of_its_last_run() -> None:
    tables = (RESULTS / "autoscaling.md").read_text().strip().split("\n\n")
    assert len(tables) == 3
    for text in tables:
        assert text in DOCUMENT, "copy benchmarks/results/autoscaling.md into docs/scale.md"


def test_numbers_in_the_text_are_those_of_the_tables() -> None:
    found = scale.results("scale")
    core = next(iter(scale.per_core().values()))
    pods = scale.replicas(1_000_000, core)
    large = found["swap"]["1 GB"]
    idle = found["swap"]["1 MB"]["before"]
    start = large["peak of start"] / 1e3
    for text in (
        f"**{found['metrics']['series']} series**",
        f"{found['metrics']['of a model']} series each",
        f"12 × 2 × {core:,.0f} × 0.65 = {12 * 2 * core * 0.65:,.0f}/s",
        f"per second need {2 * pods}\ncores",
        f"2 × {large['peak'] / 1e3:.1f} + 2 = {2 * large['peak'] / 1e3 + 2:.1f} GB",
        f"2 × {start:.1f} + 1 = {2 * start + 1:.1f} GB",
        f"(1,074 − 2 × {idle:.0f}) ÷ (2 × 3 + 2) = {(2**30 / 1e6 - 2 * idle) / 8:.0f} MB",
        f"made\n{found['looks']:.0f} system calls",
        f"{2 * scale.REPLICAS * found['looks']:,.0f}",
    ):
        assert text in DOCUMENT, text
    assert round((large["peak"] - large["before"]) / large["file"]) == 2


def test_pods_are_as_busy_as_the_autoscaler_wants_them() -> None:
    for rate, core in ((1_000, 49), (1_000_000, 14_983)):
        pods = scale.replicas(rate, core)
        assert rate / (pods * 2 * core) <= 0.65 < rate / ((pods - 1) * 2 * core)


def test_cells() -> None:
    assert [percent(share) for share in (0, 0.00033, 0.012, 0.079)] == [
        "0",
        "0.033 %",
        "1.2 %",
        "7.9 %",
    ]
    rows = [{"name": "a", "is": "1"}, {"name": "b", "is": "2"}]
    assert table(rows) == "| name | is |\n|---|---:|\n| a | 1 |\n| b | 2 |\n"
