"""Monitoring of inputs and answers: drift, prediction ids, true labels, quality, the store."""
