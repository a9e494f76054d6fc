"""Which changes between scans are acted on."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.model_file import Signature as FileStat
from logitserve.inference.repository import ModelRepository
from logitserve_service.repository.snapshot import Files, changed, scan, settled
from tests import tiny_models

ONE, TWO, THREE = (FileStat(1, 2, size, 3, 4) for size in (1, 2, 3))

files = st.dictionaries(
    st.sampled_from(string.ascii_lowercase[:3]),
    st.dictionaries(
        st.sampled_from(["1", "2", "10"]), st.sampled_from([ONE, TWO, THREE]), min_size=1
    ),
)


@pytest.mark.parametrize(
    ("accepted", "before", "now", "believed"),
    [
        ({"1": ONE}, {"1": ONE}, {"1": ONE}, {"1": ONE}),
        ({"1": ONE}, {"1": ONE}, {"1": ONE, "2": ONE}, {"1": ONE}),  # seen once
        ({"1": ONE}, {"1": ONE, "2": ONE}, {"1": ONE, "2": ONE}, {"1": ONE, "2": ONE}),
        ({"1": ONE}, {"1": ONE, "2": ONE}, {"1": ONE, "2": TWO}, {"1": ONE}),  # still grows
        ({"1": ONE}, {"1": ONE}, {"1": TWO}, {"1": ONE}),
        ({"1": ONE}, {"1": TWO}, {"1": TWO}, {"1": TWO}),
        ({"1": ONE}, {"1": ONE}, {}, {"1": ONE}),  # gone for the moment
        ({"1": ONE}, {}, {}, {}),
        ({"1": ONE}, {}, {"1": ONE}, {"1": ONE}),
    ],
)
def test_a_change_counts_when_two_scans_agree(
    accepted: dict[str, FileStat],
    before: dict[str, FileStat],
    now: dict[str, FileStat],
    believed: dict[str, FileStat],
) -> None:
    named = [{"digits": versions} if versions else {} for versions in (accepted, before, now)]
    assert settled(*named) == ({"digits": believed} if believed else {})


@given(files, files, files)
def test_what_stays_as_it_is_is_accepted_in_the_end(
    accepted: Files, before: Files, now: Files
) -> None:
    believed = settled(settled(accepted, before, now), now, now)
    assert believed == now
    order = [(name, int(key)) for name, versions in believed.items() for key in versions]
    assert order == sorted(order)
    assert changed(believed, now) == set()


@given(files, files)
def test_only_models_with_other_files_have_changed(old: Files, new: Files) -> None:
    names = {*old, *new}
    assert changed(old, new) == {name for name in names if old.get(name) != new.get(name)}


def test_a_scan_has_versions_oldest_first(tmp_path: Path) -> None:
    for name, version in (("tiny", "10"), ("tiny", "9"), ("digits", "1")):
        tiny_models.publish(tmp_path, name=name, version=version)
    snapshot = scan(ModelRepository(tmp_path))
    found = [(name, list(versions)) for name, versions in snapshot.files.items()]
    assert found == [("digits", ["1"]), ("tiny", ["9", "10"])]
    assert snapshot.files["tiny"]["9"].size == (tmp_path / "tiny/9/model.onnx").stat().st_size
