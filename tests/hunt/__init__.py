"""Inputs that cost more than they are, against a real server: `python -m tests.hunt`."""
