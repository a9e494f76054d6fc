"""Processes, sockets, connections, drain and signals."""
