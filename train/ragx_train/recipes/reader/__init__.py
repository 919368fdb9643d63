"""`ragx train reader`: the whole curriculum as one run, from a decoder to a reader of text and questions.

options.py     its settings
curriculum.py  the run: stages, and how they share the time
files.py       texts and questions in a folder, or texts of an index
layers.py      which layers the encoder and cross-attention start from
writing.py     what the decoder writes: answers in its own words, questions about an index
mixture.py     the mixture of text and questions that a stage trains on
card.py        the model card
"""

from ragx_train.recipes.reader.curriculum import run
from ragx_train.recipes.reader.options import ReaderSettings

__all__ = ["ReaderSettings", "run"]
