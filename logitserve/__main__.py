"""`python -m logitserve` is `logitserve`."""

from logitserve.cli import main

main(prog_name="logitserve")
