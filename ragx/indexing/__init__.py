"""Jobs on an index: build, update, encode."""
