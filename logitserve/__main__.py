"""`python -m logitserve` is `logitserve`."""

from logitserve.cli.main import main

main(prog_name="logitserve")
