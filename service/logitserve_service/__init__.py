"""The HTTP service around predictors. Of logitserve, it imports only `logitserve.inference`."""
