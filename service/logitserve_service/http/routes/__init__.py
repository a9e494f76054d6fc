"""One file a protocol; HTTP only."""
