"""Build hook: compiles the Cython modules (`*.pyx`) of the packages when they are installed."""

import os
import shlex
import shutil
import subprocess
import sysconfig
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def missing() -> str | None:
    """What is missing to compile a module, and how to install it; None if nothing is."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    probe = [*compiler, "-E", "-x", "c", f"-I{include}", "-"]
    source = "#include <Python.h>\n"
    try:
        done = subprocess.run(probe, input=source, capture_output=True, text=True, check=False)
    except OSError:
        reason = f"the C compiler, {compiler[0]}, is missing"
    else:
        if done.returncode == 0:
            return None
        reason = f"{compiler[0]} finds no Python.h in {include}, or no headers of C"
    return f"error: {reason}. On Debian or Ubuntu: apt install gcc libc6-dev python3-dev"


class CythonHook(BuildHookInterface[Any]):
    """Puts compiled modules into the wheel, or beside their sources if it is editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, in a temporary folder.

        Args:
            version: "standard" or "editable".
            build_data: of the wheel; its files and its tag are set here.
        """
        if message := missing():
            self.app.abort(message)
        self._folder = TemporaryDirectory()
        for module, target in compiled(self.root, self.build_config.packages, self._folder.name):
            if version == "editable":
                beside = Path(self.root, target)
                beside.unlink(missing_ok=True)  # running processes keep the file that they mapped
                shutil.copyfile(module, beside)
            else:
                build_data["force_include"][str(module)] = str(target)
        build_data.update(pure_python=False, infer_tag=True)

    def finalize(self, *_: object) -> None:
        """Remove the temporary folder after the wheel is written."""
        self._folder.cleanup()


def compiled(root: str, packages: list[str], folder: str) -> list[tuple[Path, Path]]:
    """Compile every `*.pyx` of the packages.

    Args:
        root: folder of the project.
        packages: their folders below it.
        folder: where the C files and the modules are written.

    Returns:
        Each compiled module, and its path below the root that makes it a neighbor of its source.
    """
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    places, extensions = {}, []
    with chdir(root):  # so that tracebacks name sources relative to it
        for package in map(Path, packages):
            for source in sorted(package.rglob("*.pyx")):
                name = ".".join(source.with_suffix("").relative_to(package.parent).parts)
                places[name] = source.parent
                options = ["-O3", "-g0"]
                extensions.append(Extension(name, [str(source)], extra_compile_args=options))
        extensions = cythonize(
            extensions,
            language_level=3,
            build_dir=folder,
            quiet=True,
            compiler_directives={"show_performance_hints": False},
        )
        command = build_ext(Distribution({"name": "logitserve", "ext_modules": extensions}))
        command.build_lib = command.build_temp = folder
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
    files = {name: Path(command.get_ext_fullpath(name)) for name in places}
    return [(file, places[name] / file.name) for name, file in files.items()]
