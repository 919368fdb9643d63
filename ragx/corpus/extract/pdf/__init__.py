"""PDF files."""

from ragx.corpus.extract.pdf.document import parse as parse
