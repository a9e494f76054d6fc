"""The batcher, its threads and deadlines: images or arrays in, predictions out."""
