"""What may be a key, and that none is shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.config.keys import MAX_FILE_BYTES, Keys, KeysError
from logitserve_service.config.settings import Settings
from logitserve_service.errors import SettingsError

KEY = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("API", "ADMIN"):
        for suffix in ("", "_FILE"):
            monkeypatch.delenv(f"LOGITSERVE_{kind}_KEY{suffix}", raising=False)


@given(st.lists(KEY, min_size=1), st.sampled_from([",", "\n", "\r\n", " , ", "\n\n"]), KEY)
def test_the_keys_of_a_text_are_valid_and_no_others(
    keys: list[str], separator: str, other: str
) -> None:
    ring = Keys.of_text(separator.join(keys))
    assert all(ring.have(key.encode()) for key in keys)
    assert ring.have(other.encode()) is (other in keys)
    assert not ring.have(separator.join([*keys, other]).encode())


@pytest.mark.parametrize(
    "text", ["", " ", "\n", ",", "a,", "a,,b", "a b", "a\tb", "ä", "a\x00", "a\x7f"]
)
def test_what_cannot_be_a_key(text: str) -> None:
    with pytest.raises(KeysError):
        Keys.of_text(text)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a" * (MAX_FILE_BYTES + 1))
    with pytest.raises(KeysError, match="larger than 65536 bytes"):
        Keys.of_file(tmp_path / "keys")


@pytest.mark.parametrize(
    ("variables", "field", "words"),
    [
        ({"API_KEY": ""}, "api_key", "no key"),
        ({"API_KEY": "fine,,secret"}, "api_key", "key 2 of 3 is empty"),
        ({"ADMIN_KEY": "two secret"}, "admin_key", "white space"),
        ({"ADMIN_KEY": "secret\u00e4"}, "admin_key", "ASCII"),
        ({"API_KEY_FILE": "nowhere"}, "api_key_file", "No such file"),
        ({"ADMIN_KEY_FILE": "."}, "admin_key_file", "Is a directory"),
        ({"API_KEY": "secret", "API_KEY_FILE": "x"}, "api_key_file", "set only one of them"),
        ({"ADMIN_KEY": "secret", "ADMIN_KEY_FILE": "x"}, "admin_key_file", "set only one of them"),
    ],
)
def test_settings_that_hold_no_keys_say_why_but_not_what(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], field: str, words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"LOGITSERVE_{name}", value)
    with pytest.raises(SettingsError, match=words) as refused:
        Settings.read({})
    assert refused.value.field == field
    assert "secret" not in str(refused.value)


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITSERVE_API_KEY", "a-secret")
    settings = Settings.read({})
    assert "a-secret" not in f"{settings!r} {settings} {settings.model_dump()}"
    keys = settings.keys("api_key")
    assert keys is not None
    assert keys.have(b"a-secret")
