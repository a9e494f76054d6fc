"""Long campaigns against a real server process; the tests run a short form of each."""
