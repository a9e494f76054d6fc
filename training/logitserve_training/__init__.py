"""Training of model files. The only package that imports TensorFlow."""
