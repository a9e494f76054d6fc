"""The experiments of `docs/numerics.md`; `run` runs all."""
