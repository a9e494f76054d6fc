"""Statistics of held-out pictures: calibration, thresholds, confidence intervals."""
