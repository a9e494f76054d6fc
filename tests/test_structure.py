"""The rooms of the house: which may import which, and what no import may do."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

from logitserve.inference import errors as inference_errors
from logitserve_service import errors as service_errors
from logitserve_service.http.problems import STATUS
from logitserve_training import errors as training_errors

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "logitserve": ROOT / "logitserve",
    "logitserve_service": ROOT / "service/logitserve_service",
    "logitserve_training": ROOT / "training/logitserve_training",
}
GROUND_FLOOR = "logitserve.inference"

ALLOWED = {
    GROUND_FLOOR: {GROUND_FLOOR},
    "logitserve_training": {GROUND_FLOOR, "logitserve_training"},
    "logitserve_service": {GROUND_FLOOR, "logitserve_service"},
    "logitserve": {GROUND_FLOOR, *PACKAGES},
}
"""Package → packages that it may import."""

ONLY_IN_TRAINING = {"keras", "matplotlib", "tensorflow", "tf2onnx"}


@cache
def sources(package: str) -> list[Path]:
    """Python files of a package, and the stubs of its compiled modules."""
    ground_floor = ROOT / "logitserve/inference"
    folder = ground_floor if package == GROUND_FLOOR else PACKAGES[package]
    stubs = (path.with_suffix(".pyi") for path in folder.rglob("*.pyx"))
    found = sorted([*folder.rglob("*.py"), *stubs])
    return [path for path in found if folder == ground_floor or ground_floor not in path.parents]


def package_of(module: str) -> str:
    """The package of a module; the ground floor is one of its own."""
    if module == GROUND_FLOOR or module.startswith(f"{GROUND_FLOOR}."):
        return GROUND_FLOOR
    return module.partition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Package of each import, and whether it runs when the module is imported."""
    tree = parsed(path)
    at_top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((package_of(alias.name), node in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield package_of(node.module), node in at_top


def module_name(package: str, path: Path) -> str:
    root = PACKAGES[package.partition(".")[0]].parent
    return ".".join(path.relative_to(root).with_suffix("").parts)


COMPILED = {
    module_name(package, path): path
    for package, folder in PACKAGES.items()
    for path in folder.rglob("*.pyx")
}
"""Module in Cython → its source."""

ROOMS = ("config", "telemetry", "monitoring", "execution", "repository", "api", "http", "server")
"""Rooms of the service, from the ground up: each may import those before it."""
SHARED = {"logitserve_service.errors", "logitserve_service.periodically"}
"""Modules below all rooms."""
MAX_DEPTH = 8
"""Rooms and shared modules that a chain of imports inside the service may pass."""


def modules() -> dict[str, Path]:
    """Every module of the three packages."""
    return {
        module_name(package, path).removesuffix(".__init__"): path
        for package in ALLOWED
        for path in sources(package)
    }


def imported_modules(path: Path, known: Collection[str]) -> set[str]:
    """Modules of the project that a module imports, anywhere in it and for type checking too."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & set(known)


def room_of(module: str) -> str:
    """The room of a module of the service; itself where it belongs to none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else module


MODULES = modules()
GRAPH = {name: imported_modules(path, MODULES.keys()) for name, path in MODULES.items()}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_itself_and_rooms_below(room: str) -> None:
    below = {*ROOMS[: ROOMS.index(room) + 1], *SHARED}
    for module, imported in GRAPH.items():
        if module.startswith(f"logitserve_service.{room}"):
            inside = {name for name in imported if name.startswith("logitserve_service.")}
            assert {room_of(name) for name in inside} <= below, module


def test_what_is_below_all_rooms_imports_none() -> None:
    for module in SHARED:
        assert not {name for name in GRAPH[module] if name.startswith("logitserve_service.")}


def test_no_module_imports_itself_in_a_circle() -> None:
    order = TopologicalSorter(GRAPH)
    order.prepare()  # raises CycleError, which names the circle


def test_no_chain_of_imports_passes_too_many_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        if module.startswith("logitserve_service."):
            inside = {name for name in imported if name.startswith("logitserve_service.")}
            rooms.setdefault(room_of(module), set()).update(map(room_of, inside))
    depth: dict[str, int] = {}
    for room in TopologicalSorter({k: v - {k} for k, v in rooms.items()}).static_order():
        depth[room] = 1 + max((depth[below] for below in rooms[room] - {room}), default=0)
    assert max(depth.values()) <= MAX_DEPTH, depth


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        packages = {name for name, _ in imports(path)} & set(ALLOWED)
        assert packages <= ALLOWED[package], path


@pytest.mark.parametrize("package", [GROUND_FLOOR, "logitserve", "logitserve_service"])
def test_tensorflow_lives_in_training(package: str) -> None:
    for path in sources(package):
        assert not {name for name, _ in imports(path)} & ONLY_IN_TRAINING, path


def test_the_front_door_imports_training_only_inside_its_commands() -> None:
    for path in sources("logitserve"):
        assert ("logitserve_training", True) not in set(imports(path)), path


def test_onnxruntime_is_imported_in_one_place() -> None:
    for package in ALLOWED:
        for path in sources(package):
            assert ("onnxruntime", True) not in set(imports(path)), path


def test_importing_every_module_of_the_service_prints_and_starts_nothing() -> None:
    modules = [
        module_name(package, path)
        for package in (GROUND_FLOOR, "logitserve_service", "logitserve")
        for path in sources(package)
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


@pytest.mark.parametrize("module", [inference_errors, service_errors, training_errors])
def test_the_tree_of_errors_at_the_top_of_the_module_is_complete(module: ModuleType) -> None:
    assert module.__doc__ is not None
    for cls in error_classes(module):
        assert cls.__name__ in module.__doc__.split(), cls


def test_every_error_that_a_request_can_meet_has_a_status() -> None:
    never_in_a_request: tuple[type[Exception], ...] = (
        inference_errors.ModelFileError,
        inference_errors.NoModelsError,
        inference_errors.PublishError,
        service_errors.StartError,
    )
    bases = {
        inference_errors.InferenceError,
        inference_errors.RepositoryError,
        service_errors.ServiceError,
    }
    for module in (inference_errors, service_errors):
        for cls in error_classes(module):
            if not issubclass(cls, never_in_a_request) and cls not in bases:
                assert set(cls.__mro__) & set(STATUS), cls
