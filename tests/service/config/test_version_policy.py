import pytest

from logitserve_service.config.version_policy import VersionPolicy

VERSIONS = ["1", "2", "9", "10"]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("latest", ["10"]),
        ("", ["10"]),
        ("all", VERSIONS),
        ("digits=2", ["2"]),
        ("digits=10,2", ["2", "10"]),
        ("all digits=2 zero=1", ["2"]),
        ("zero=1", ["10"]),
        ("all zero=1", VERSIONS),
        ("digits=3", []),
    ],
)
def test_chooses_versions(text: str, chosen: list[str]) -> None:
    assert VersionPolicy.parse(text).chosen("digits", VERSIONS) == chosen


def test_of_no_versions_none_is_chosen() -> None:
    for text in ("latest", "all", "digits=1"):
        assert VersionPolicy.parse(text).chosen("digits", []) == []


@pytest.mark.parametrize("text", ["newest", "digits", "digits=", "digits=01", "Digits=1", "a=1;b"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither 'latest' nor 'all' nor a pin"):
        VersionPolicy.parse(text)
