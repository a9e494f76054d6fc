"""`python -m logitserve`, and the console script `logitserve`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; signals count before the first import that takes long."""
    if sys.argv[1:2] == ["serve"]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            # Not SystemExit, which would be raised amid an import or the loading of a library.
            signal.signal(number, lambda *_: os._exit(0))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    from logitserve.cli.main import main as run

    run(prog_name="logitserve")


if __name__ == "__main__":
    main()
