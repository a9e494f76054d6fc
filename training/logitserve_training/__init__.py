"""The room that makes model files. TensorFlow lives here and nowhere else."""
