"""Passages and a question -> an answer. One file per reader; `reading.read` is the way through all of them."""
