"""Fuzz targets: `python -m tests.fuzz TARGET[,TARGET…] [FOLDER] [options of libFuzzer …]`.

Several run beside each other. New inputs that reach new code are put into FOLDER (else they are
forgotten). Inputs that raise, crash, or take more than `-timeout` seconds or `-rss_limit_mb` of
memory end the run, and are written to where `-artifact_prefix` says: put them into
`tests/fuzz/corpus/TARGET/`, which the tests replay, together with what mends them.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
OPTIONS = ("-rss_limit_mb=2048", "-timeout=10", "-max_len=4096")
WATCHED = ("logitserve", "logitserve_service", "PIL")
"""Packages whose coverage guides; compiled code has none to tell."""


def main(arguments: list[str]) -> int:
    """Run until libFuzzer ends; 0 where it has found nothing."""
    import atheris

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=list(WATCHED), enable_loader_override=False):
        from tests.fuzz import targets
    names, *options = arguments
    # One process each, because libFuzzer ends its own; instrumenting takes longer than short runs.
    children = {}
    for name in names.split(","):
        child = os.fork()
        if child == 0:
            with tempfile.TemporaryDirectory(prefix="logitserve-fuzz-") as forgotten:
                atheris.Setup(
                    [sys.argv[0], *OPTIONS, *(options or []), forgotten, str(CORPUS / name)],
                    targets.TARGETS[name],
                )
                atheris.Fuzz()
        children[name] = child
    statuses = {
        name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()
    }
    print(f"ended with {statuses}", file=sys.stderr)
    return 1 if any(statuses.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
