"""Random BERT-like models, saved as transformers does: no sentence-transformers files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz[]<>|/_0123456789")


def tokenizer(backend: Tokenizer, *more: AddedToken) -> PreTrainedTokenizerFast:
    """With BERT's special tokens around a text."""
    backend.add_special_tokens(SPECIAL)
    backend.add_tokens(list(more))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


def word_pieces() -> Tokenizer:
    pieces = SPECIAL + LETTERS + [f"##{letter}" for letter in LETTERS]
    backend = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def save_encoder(folder: Path, kind: str = "bert", dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    """A model of two layers, with a window of 64 tokens, in `folder`."""
    made = tokenizer(word_pieces())
    made.save_pretrained(folder)
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(made), "pad_token_id": made.pad_token_id, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 66,
    }  # fmt: skip
    AutoModel.from_config(AutoConfig.for_model(kind, **settings | options)).to(dtype).save_pretrained(folder)
    return folder
