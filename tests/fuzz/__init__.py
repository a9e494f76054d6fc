"""Coverage-guided fuzzing (atheris): `python -m tests.fuzz TARGET`, or `make fuzz`."""
