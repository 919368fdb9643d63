"""Readers bundled with ragx, as data for `ragx.models`."""
