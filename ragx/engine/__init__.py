"""Decoding: one answer or many at once, sampling, key/value caches."""
