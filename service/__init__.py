"""HTTP around predictors. Imports `inference`, never `training`."""
