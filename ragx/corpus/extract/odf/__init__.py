"""OpenDocument files."""

from ragx.corpus.extract.odf.document import parse as parse
