"""What held-out pictures say of a model: calibration, thresholds, figures and their intervals."""
