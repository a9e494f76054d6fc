"""Convert images of handwritten digits into MNIST's format."""
