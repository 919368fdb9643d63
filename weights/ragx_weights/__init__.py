"""Trained readers that come with ragx: data, found by `ragx.models`."""
