"""The lessons of the lecture, measured: what `docs/numerics.md` shows. `run` has them all."""
