"""The command line interface and the HTTP client."""
