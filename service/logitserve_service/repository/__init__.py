"""The model repository: scan, verify, load, watch and look up models."""
