"""Helpers without a domain: files, devices, text, tokenizers, the terminal."""
