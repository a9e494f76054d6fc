import gzip
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from logitserve_training.datasets import idx
from logitserve_training.errors import DataFormatError, DataMissingError
from tests.training.idx_files import to_idx

HERE = Path("some-file")


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4)))
def test_what_was_written_is_read(array: npt.NDArray[np.uint8]) -> None:
    found = idx.parse(to_idx(array), HERE)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=64))
def test_any_other_bytes_are_an_array_or_a_format_error(content: bytes) -> None:
    with suppress(DataFormatError):
        assert idx.parse(content, HERE).dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG....", "begins with 89 50 4e 47"),
        (b"\0\0\x0d\x01\0\0\0\0", "unsigned bytes"),
        (b"\0\0\x08\x02\0\0\0\x01", "the wrong size"),
        (b"\0\0\x08\x01\0\0\0\x03ab", r"says \(3,\) elements, but there are 2"),
        (b"\0\0\x08\x01\0\0\0\x01ab", "the wrong size: .* but there are 2"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "there are 0"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(content: bytes, reason: str) -> None:
    with pytest.raises(DataFormatError, match=reason):
        idx.parse(content, HERE)


def test_a_gzipped_file_is_unpacked_and_a_plain_one_is_read(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed.gz"
    plain.write_bytes(b"\0\0\x08")
    packed.write_bytes(gzip.compress(b"\0\0\x08"))
    assert idx.read_bytes(plain) == idx.read_bytes(packed) == b"\0\0\x08"


@pytest.mark.parametrize("damage", [slice(0, -4), slice(0, 12)])
def test_a_gzipped_file_cut_short_is_refused(tmp_path: Path, damage: slice) -> None:
    path = tmp_path / "short.gz"
    path.write_bytes(gzip.compress(bytes(range(256)))[damage])
    with pytest.raises(DataFormatError, match=r"short\.gz is damaged or truncated"):
        idx.read_bytes(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"absent cannot be read: No such file"):
        idx.read_bytes(tmp_path / "absent")
