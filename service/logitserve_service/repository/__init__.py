"""The model repository: scan, verify, load, follow changes, and look up models."""
