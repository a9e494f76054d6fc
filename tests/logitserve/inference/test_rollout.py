"""`rollout.json`, and what may be changed to what."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from logitserve.cli.main import main
from logitserve.inference.errors import RolloutError
from logitserve.inference.rollout import MAX_HISTORY, ROLLOUT_FILE, Rollout, check, read, write
from tests import tiny_models


def test_without_a_file_the_newest_version_is_live(tmp_path: Path) -> None:
    assert read(tmp_path) == Rollout()
    assert read(tmp_path).versions == frozenset()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    canary = {"version": "4", "percent": 2.5, "by": "header:X-User"}
    made = Rollout().changed("command", "3", live="3", canary=canary, shadow={"version": "5"})
    write(tmp_path, made)
    assert read(tmp_path) == made
    assert made.versions == {"3", "4", "5"}
    assert [path.name for path in tmp_path.iterdir()] == [ROLLOUT_FILE]
    assert (tmp_path / ROLLOUT_FILE).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "is not JSON"),
        ('{"liv": "3"}', "unknown member 'liv'; did you mean 'live'?"),
        ('{"canary": {"version": "3", "percnt": 3}}', "did you mean 'percent'?"),
        ('{"live": "03"}', "live: "),
        ('{"live": 3}', "live: "),
        ('{"canary": {"version": "3", "percent": 0}}', "canary.percent: "),
        ('{"canary": {"version": "3", "percent": 101}}', "canary.percent: "),
        ('{"canary": {"version": "3", "percent": 1, "by": "header:"}}', "canary.by: "),
        ("[]", "valid dictionary"),
    ],
)
def test_what_is_no_rollout(tmp_path: Path, document: str, text: str) -> None:
    (tmp_path / ROLLOUT_FILE).write_text(document)
    with pytest.raises(RolloutError, match=r"rollout\.json") as raised:
        read(tmp_path)
    assert text in str(raised.value)


def test_a_version_has_one_part(tmp_path: Path) -> None:
    del tmp_path
    made = Rollout().changed("command", "3", canary={"version": "4", "percent": 5})
    promoted = made.changed("command", "3", live="4")
    assert (promoted.live, promoted.canary) == ("4", None)
    with pytest.raises(RolloutError, match="version 4 is live; another one can be the shadow"):
        promoted.changed("command", "3", shadow={"version": "4"})
    with pytest.raises(RolloutError, match="there is no version 4; there is 1, 2"):
        check(promoted, ["1", "2"])


def test_history_leads_back() -> None:
    rollout = Rollout()
    assert rollout.before(["1", "2", "3"]) == "2"
    assert rollout.changed("request", "3", live="1").before(["1", "2", "3", "4"]) == "3"
    for was_live, live in zip("413", "132", strict=True):
        rollout = rollout.changed("request", was_live, live=live)
    assert rollout.before(["1", "2", "3"]) == "3"
    assert rollout.before(["1", "2"]) == "1"  # 3 is gone
    assert [change.live for change in rollout.history] == ["1", "3", "2"]
    with pytest.raises(RolloutError, match="no version was live before version 1"):
        Rollout().before(["1"])
    for _ in range(2 * MAX_HISTORY):
        rollout = rollout.changed("request", "1", live="1")
    assert len(rollout.history) == MAX_HISTORY


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ROLLOUT_FILE).mkdir()
    with pytest.raises(RolloutError, match="cannot be written"):
        write(tmp_path, Rollout())
    with pytest.raises(RolloutError, match="cannot be read"):
        read(tmp_path)


def test_commands(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        tiny_models.publish(tmp_path, version=version)

    def models(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["models", *arguments, "--models", str(tmp_path)])
        return done.exit_code, done.output

    assert models("promote", "tiny", "2")[1].startswith("model tiny: version 2 is live\n")
    assert models("canary", "tiny", "3", "--percent", "10", "--by", "key")[0] == 0
    assert models("shadow", "tiny", "1")[0] == 0
    told = json.loads(models("rollout", "tiny", "--json")[1])
    assert told["live"] == "2"
    assert told["canary"] == {"version": "3", "percent": 10, "by": "key"}
    assert told["shadow"] == {"version": "1", "percent": 100}
    assert "version 3 is the canary (10 % by key)" in models("rollout", "tiny")[1]
    assert models("promote", "tiny", "3")[0] == 0
    assert read(tmp_path / "tiny").canary is None
    assert models("rollback", "tiny")[1].startswith("model tiny: version 2 is live\n")
    assert read(tmp_path / "tiny").shadow is None
    assert models("promote", "tiny", "newest")[1].startswith("model tiny: the newest version (3)")
    assert len(read(tmp_path / "tiny").history) == 6
    for wrong, text in (
        (("promote", "tiny", "9"), "there is no version 9; there is 1, 2, 3"),
        (("promote", "tiny", "x"), "live: "),
        (("canary", "tiny", "1", "--by", "cookie"), "canary.by: "),
        (("promote", "tinny", "1"), "no model 'tinny'"),
    ):
        status, printed = models(*wrong)
        assert status == 1
        assert text in printed
        assert "Traceback" not in printed
    assert len(read(tmp_path / "tiny").history) == 6
