"""HTTP around predictors, in seven rooms. Imports `logitserve.inference` and nothing above it."""
