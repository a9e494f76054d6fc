"""The front door: command line and client."""
