"""The command line interface: one file per command, with lazy imports."""
