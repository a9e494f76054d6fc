"""The ground floor: what a model file is and how to use one. Knows no HTTP and no TensorFlow."""
