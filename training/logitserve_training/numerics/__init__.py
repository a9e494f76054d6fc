"""Experiments of `docs/numerics.md`: the numerical lessons of the lecture. `run` runs all."""
