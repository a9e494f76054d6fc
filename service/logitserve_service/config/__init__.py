"""One settings model: flags, environment and file."""
