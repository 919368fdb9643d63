"""Jobs on an index: build, update, delete, encode."""

from ragx.indexing.build import build as build_index
from ragx.indexing.update import update as update_index

__all__ = ["build_index", "update_index"]
