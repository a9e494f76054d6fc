"""Images of handwritten digits → images made the way MNIST was made."""
