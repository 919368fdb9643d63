"""Decoding: single answers and batches, sampling, key/value caches."""
