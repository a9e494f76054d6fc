"""What is seen of the pictures that arrive, and of their predictions."""
