"""Entry point of `python -m logitserve` and of the console script `logitserve`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; signal handlers are installed before slow imports."""
    if sys.argv[1:2] == ["serve"]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            # Not SystemExit: it could be raised inside an import or while a library loads.
            signal.signal(number, lambda *_: os._exit(0))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    from logitserve.cli.main import main as run

    run(prog_name="logitserve")


if __name__ == "__main__":
    main()
