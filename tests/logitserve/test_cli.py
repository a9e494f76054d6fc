"""The command line as a whole: help, completion, and how it ends."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import onnx
import pytest
from click.testing import CliRunner

from logitserve import errors
from logitserve.cli.main import COMMANDS, main
from logitserve_training.recipes import RECIPES
from tests.e2e.process import clean_environment, command, run
from tests.tiny_models import publish

HEAVY = ("fastapi", "numpy", "onnx", "onnxruntime", "pydantic", "tensorflow")


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from logitserve.cli.main import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    shown, _, imported = done.stdout.strip().rpartition("\n")
    assert imported == "[]"
    words = " ".join(shown.split())
    for name, summary in COMMANDS.items():
        assert f" {name} {summary}" in words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name: str) -> None:
    found: click.Command = import_module(f"logitserve.cli.{name}").command
    assert found.name == name
    assert found.help is not None
    assert found.help.splitlines()[0] == COMMANDS[name]
    helped = CliRunner().invoke(main, [name, "--help"])
    assert helped.exit_code == 0
    assert f"    logitserve {name}" in helped.output.partition("Examples:")[2]


def test_the_list_is_complete() -> None:
    folder = Path(__file__).parents[2] / "logitserve/cli"
    having_one = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "command"
    }
    assert having_one == set(COMMANDS)


def test_the_tree_of_errors_is_complete() -> None:
    assert errors.__doc__ is not None
    for name, cls in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(cls, errors.LogitserveError)
        assert name in errors.__doc__.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert "_LOGITSERVE_COMPLETE=" in done.stdout
    assert "logitserve" in done.stdout


def test_completion_offers_commands_and_options() -> None:
    def complete(words: str, index: str) -> str:
        environment = clean_environment(
            _LOGITSERVE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=index
        )
        program = "from logitserve.cli.main import main; main(prog_name='logitserve')"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert complete("logitserve ", "1").split() == [f"plain,{name}" for name in COMMANDS]
    assert complete("logitserve ev", "1").split() == ["plain,evaluate"]
    assert "--seed" in complete("logitserve train --s", "2")


def test_an_unknown_command_or_option() -> None:
    for arguments in (["frobnicate"], ["serve", "--frobnicate"]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        assert done.output.splitlines()[-1].startswith("Error: No such ")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "logitserve_training.errors", None)
    done = CliRunner().invoke(main, ["train", "digits"])
    assert done.exit_code == 1
    assert "pip install 'logitserve[training]'" in done.output
    assert len(done.output.splitlines()) == 1


def test_training_errors_are_one_line() -> None:
    status, printed = run("train", "frogs")
    assert status == 1
    assert printed == f"Error: no recipe 'frogs'; there is {', '.join(RECIPES)}\n"


def test_what_is_near_a_misspelled_recipe() -> None:
    _, printed = run("train", "digts")
    assert printed.startswith("Error: no recipe 'digts'; did you mean 'digits'? there is ")


def test_serving_a_path_says_what_to_do_instead(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        status, printed = run("serve", str(path))
        assert status == 2
        return printed.splitlines()[-1]

    assert f"write --models {tmp_path}" in said(tmp_path)
    assert "does not exist; serve a folder of models with --models" in said(tmp_path / "none")
    publish(tmp_path)
    published = tmp_path / "tiny" / "1" / "model.onnx"
    copied = "cp {0} models/tiny/1/model.onnx"
    assert copied.format(published) in said(published)
    model = onnx.load(published)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    assert f"`logitserve adopt {tmp_path / 'bare.onnx'} --name NAME" in said(tmp_path / "bare.onnx")
    (tmp_path / "bare.onnx").write_bytes(b"no ONNX")
    assert "this file is not a model" in said(tmp_path / "bare.onnx")


def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen(
        command("completion", "bash"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert process.stdout is not None
    process.stdout.close()
    _, printed = process.communicate()
    assert process.returncode == 1
    assert printed == ""
