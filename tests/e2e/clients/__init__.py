"""Programs that ask a server with other people's clients, in those clients' own environment.

Each is run as `python -m tests.e2e.clients.<name> <address> <folder>`; `harness.py` tells what it
finds in the folder and what it leaves there.
"""
