"""Model files and inference. Independent of HTTP and TensorFlow."""
