"""The rooms of the house: which may import which, and what no import may do."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import inference.errors
import service.errors
import training.errors
from service.problems import STATUS

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "inference": {"inference"},
    "training": {"inference", "training"},
    "service": {"inference", "service"},
    "logitserve": {"inference", "logitserve", "service", "training"},
}
"""Room → rooms that it may import."""

ONLY_IN_TRAINING = {"keras", "matplotlib", "tensorflow", "tf2onnx"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level package of each import, and whether it runs when the module is imported."""
    tree = ast.parse(path.read_text())
    at_top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module.split(".")[0], node in at_top


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    assert sources(room)
    for path in sources(room):
        rooms = {name for name, _ in imports(path)} & set(ALLOWED)
        assert rooms <= ALLOWED[room], path


@pytest.mark.parametrize("room", ["inference", "logitserve", "service"])
def test_tensorflow_lives_in_training(room: str) -> None:
    for path in sources(room):
        assert not {name for name, _ in imports(path)} & ONLY_IN_TRAINING, path


def test_the_front_door_imports_training_only_inside_its_commands() -> None:
    for path in sources("logitserve"):
        assert ("training", True) not in set(imports(path)), path


def test_onnxruntime_is_imported_in_one_place() -> None:
    for room in ALLOWED:
        for path in sources(room):
            assert ("onnxruntime", True) not in set(imports(path)), path


def test_importing_every_module_of_the_service_prints_and_starts_nothing() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("inference", "service", "logitserve")
        for path in sources(room)
        if path.name not in {"__init__.py", "__main__.py"}
    ]
    program = (
        f"import {', '.join(modules)}; import sys, threading; "
        "assert 'onnxruntime' not in sys.modules; assert threading.active_count() == 1"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def error_classes(module: ModuleType) -> list[type[Exception]]:
    return [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception) and cls.__module__ == module.__name__
    ]


@pytest.mark.parametrize("module", [inference.errors, service.errors, training.errors])
def test_the_tree_of_errors_at_the_top_of_the_module_is_complete(module: ModuleType) -> None:
    assert module.__doc__ is not None
    for cls in error_classes(module):
        assert cls.__name__ in module.__doc__.split(), cls


def test_every_error_that_a_request_can_meet_has_a_status() -> None:
    never_in_a_request: tuple[type[Exception], ...] = (
        inference.errors.ModelFileError,
        inference.errors.NoModelsError,
        inference.errors.PublishError,
        service.errors.StartError,
    )
    bases = {
        inference.errors.InferenceError,
        inference.errors.RepositoryError,
        service.errors.ServiceError,
    }
    for module in (inference.errors, service.errors):
        for cls in error_classes(module):
            if not issubclass(cls, never_in_a_request) and cls not in bases:
                assert set(cls.__mro__) & set(STATUS), cls
