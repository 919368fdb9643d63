"""Rich Text Format."""

from ragx.corpus.extract.rtf.reader import parse as parse
