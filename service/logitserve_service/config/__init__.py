"""The settings: command-line options, environment variables and settings file."""
