"""The batcher, its threads and deadlines: it turns images or arrays into predictions."""
