"""Vectors are the model's own, and text never becomes control."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ragx.corpus.chunking import token_spans, windows
from ragx.errors import ModelError
from ragx.models import fingerprint, resolve
from ragx.retrieval import TextEmbedder
from ragx.retrieval.tokenizer import read_text_as_text
from tests.helpers.toy_embedders import passage, passages

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz[]<>|/_0123456789")
TEXTS = ["snow", "fresh snow reflects most of the light " * 3, "", "soil absorbs it", "a b c"]


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


def unigram() -> Tokenizer:
    """Like XLM-R's: the control tokens are pieces of the vocabulary, and the likeliest."""
    pieces = [(piece, 0.0) for piece in SPECIAL] + [(letter, -5.0) for letter in [*LETTERS, "▁"]]
    backend = Tokenizer(models.Unigram(pieces, unk_id=1))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, saved as transformers does: no sentence-transformers files."""
    folder = tmp_path_factory.mktemp("bert")
    made = tokenizer(word_pieces())
    made.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(made), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def embedder(folder: Path) -> TextEmbedder:
    return TextEmbedder.load(folder, name="tiny", fingerprint="t" * 64, dtype=torch.float32)


@pytest.fixture(scope="module")
def minilm() -> TextEmbedder:
    folder = resolve("all-minilm-l6-v2", "embedder")
    return TextEmbedder.load(folder, name="all-minilm-l6-v2", fingerprint=fingerprint(folder))


# Vectors


def test_a_plain_bert_folder_gets_the_mean_of_the_last_hidden_states(folder: Path, embedder: TextEmbedder) -> None:
    bert = BertModel.from_pretrained(folder)
    ids = embedder.tokenizer("snow reflects light", return_tensors="pt")
    with torch.inference_mode():
        expected = bert(**ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(embedder.encode_question("snow reflects light"), expected, atol=1e-5)
    assert not np.isclose(np.linalg.norm(expected), 1)  # not normalised


def test_a_passage_is_its_title_and_its_text(embedder: TextEmbedder) -> None:
    titled = passage(0, "It reflects light.", title="Snow")
    bare = passage(1, "It reflects light.")
    vectors = embedder.encode_passages([titled, bare])
    np.testing.assert_allclose(vectors[0], embedder.encode_question("Snow It reflects light."), atol=1e-5)
    np.testing.assert_allclose(vectors[1], embedder.encode_question("It reflects light."), atol=1e-5)


def test_vectors_come_in_the_order_of_the_passages_whatever_their_lengths(embedder: TextEmbedder) -> None:
    texts = TEXTS * 120  # more than one call of the model
    done: list[int] = []
    vectors = embedder.encode_passages(passages(texts), done.append)
    assert vectors.shape == (len(texts), embedder.dimension) == (600, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [embedder.embed_texts([text])[0] for text in TEXTS] * 120, atol=1e-5)
    assert sum(done) == len(texts)
    assert len(done) > 1


def test_no_passages_give_no_vectors(embedder: TextEmbedder) -> None:
    assert embedder.encode_passages([]).shape == (0, 32)


def test_bfloat16_vectors_are_near_float32s_and_normalised_ones_have_length_one(minilm: TextEmbedder) -> None:
    folder = resolve("all-minilm-l6-v2", "embedder")
    low, high = (
        TextEmbedder.load(folder, name="m", fingerprint="m", dtype=dtype).encode_passages(passages(TEXTS))
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert low.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, atol=1e-6)
    assert (low * high).sum(axis=1).min() > 0.998


def test_the_models_prompts_are_used(folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu", prompts={"query": "question ", "document": "page "})
    model.save(str(tmp_path))
    prompted = TextEmbedder.load(tmp_path, name="p", fingerprint="p", dtype=torch.float32)
    plain = TextEmbedder.load(folder, name="t", fingerprint="t", dtype=torch.float32)
    expected = plain.encode_question("question snow"), plain.encode_question("page snow")
    np.testing.assert_allclose(prompted.encode_question("snow"), expected[0], atol=1e-5)
    np.testing.assert_allclose(prompted.encode_passages(passages(["snow"]))[0], expected[1], atol=1e-5)


def test_threads_may_share_an_embedder(embedder: TextEmbedder) -> None:
    expected = [embedder.encode_question(text) for text in TEXTS]
    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(embedder.encode_question, TEXTS * 10))
    np.testing.assert_allclose(vectors, expected * 10, atol=1e-5)


# Text is data


def test_no_added_token_of_minilm_comes_out_of_text(minilm: TextEmbedder) -> None:
    first, last = minilm.tokenizer.cls_token_id, minilm.tokenizer.sep_token_id
    control = set(minilm.tokenizer.added_tokens_decoder)
    assert len(control) >= 5
    for token in minilm.tokenizer.added_tokens_decoder.values():
        for text in (
            token.content,
            f"a{token.content}b",
            f" {token.content} ",
            token.content * 3,
            f"x\n{token.content}",
        ):
            # As the model is given it.
            ids = minilm._model.preprocess([text])["input_ids"][0].tolist()
            assert (ids[0], ids[-1]) == (first, last)
            assert control.isdisjoint(ids[1:-1]), text


def test_a_control_string_is_embedded_as_its_characters(minilm: TextEmbedder) -> None:
    written, spelled = minilm.encode_passages(passages(["a [SEP] b", "a [ sep ] b"]))
    np.testing.assert_allclose(written, spelled, atol=1e-3)


def whole_words() -> Tokenizer:
    """Split at white space alone, so that a control token is a word of the vocabulary."""
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*SPECIAL, "a", "b"])}, unk_token="[UNK]"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


@pytest.mark.parametrize("backend", [word_pieces, unigram, whole_words])
def test_markup_is_read_as_text_and_words_and_spaces_stay_whole(backend: Callable[[], Tokenizer]) -> None:
    markup = ["<tool>", "|||mask|||", "[unused0]"]
    ordinary = ["snowball", "  "]
    made = tokenizer(backend(), *(AddedToken(token, normalized=False) for token in markup + ordinary))
    control = {made.convert_tokens_to_ids(token) for token in [*SPECIAL, *markup]} - {made.unk_token_id}
    for token in [*SPECIAL, *markup]:
        ids = made.encode(f"a {token} b", add_special_tokens=False)
        assert made.convert_tokens_to_ids(token) in ids  # else this test shows nothing
    read_text_as_text(made)
    for token in [*SPECIAL, *markup]:
        for text in (token, f"a{token}b", f" {token} ", token * 2):
            assert control.isdisjoint(made.encode(text, add_special_tokens=False)), text
    for token in ordinary:
        assert made.convert_tokens_to_ids(token) in made.encode(f"a{token}b", add_special_tokens=False)
    ids = made.encode("a")
    assert (ids[0], ids[-1]) == (made.cls_token_id, made.sep_token_id)
    assert made.cls_token_id not in made.encode("［CLS］ <tool>", add_special_tokens=False)  # "[CLS]" when normalised


def test_a_tokenizer_that_cannot_tell_text_from_control_is_refused() -> None:
    pieces = [*SPECIAL, *LETTERS, "[C", "[CL", "[CLS", *"CLS"]
    merges = [("[", "C"), ("[C", "L"), ("[CL", "S"), ("[CLS", "]")]
    backend = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="cannot hide"):
        read_text_as_text(tokenizer(backend))


# What cannot be loaded


def test_a_missing_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no embedder at"):
        TextEmbedder.load(tmp_path / "missing", name="m", fingerprint="m")
    with pytest.raises(ModelError, match="cannot load embedder empty"):
        TextEmbedder.load(tmp_path, name="empty", fingerprint="e")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_folder_is_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / damage).write_text("{")
    with pytest.raises(ModelError, match="cannot load embedder broken") as caught:
        TextEmbedder.load(tmp_path / "model", name="broken", fingerprint="b")
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_the_model_reads_has_the_mean_of_its_windows(minilm: TextEmbedder) -> None:
    assert minilm.window == 256
    words = [f"word{number % 97}" for number in range(600)]
    text = " ".join(words)
    vector, beginning = minilm.embed_texts([text, " ".join(words[:50])])
    spans = token_spans(text, minilm.tokenizer)
    pieces = [text[start:end] for start, end in windows(spans, 254, 0)]
    mean = np.average(minilm.embed_texts(pieces), axis=0, weights=list(map(len, pieces)))
    assert len(pieces) > 3
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=0.02)
    assert not np.allclose(vector, beginning, atol=0.02)


def test_the_end_of_a_long_text_counts(minilm: TextEmbedder) -> None:
    noise = " ".join(f"{number * 7919:x}" for number in range(300))
    texts = [noise, f"{noise} The keeper of the lighthouse is Morag Bain."]
    plain, answer = minilm.embed_texts(texts) @ minilm.encode_question("Who is the keeper of the lighthouse?")
    assert answer > plain + 0.01
