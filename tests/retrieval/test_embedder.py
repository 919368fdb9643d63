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
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertModel

from ragx.corpus.chunking import token_spans, windows
from ragx.errors import ModelError
from ragx.models import fingerprint, resolve
from ragx.retrieval import TextEmbedder
from ragx.retrieval.compiling import open_compiled
from ragx.retrieval.loading import load_embedder
from ragx.retrieval.sentence_transformer import SentenceTransformerEmbedder, load_sentence_transformer
from ragx.retrieval.tokenizer import plain_text_tokenizer, read_text_as_text
from tests.helpers.tiny_encoders import LETTERS, SPECIAL, save_encoder, tokenizer, word_pieces
from tests.helpers.toy_embedders import passage, passages

Load = Callable[..., TextEmbedder]
TEXTS = ["snow", "fresh snow reflects most of the light " * 3, "", "soil absorbs it", "a b c"]


def unigram() -> Tokenizer:
    """Like XLM-R's: the control tokens are pieces of the vocabulary, and the likeliest."""
    pieces = [(piece, 0.0) for piece in SPECIAL] + [(letter, -5.0) for letter in [*LETTERS, "▁"]]
    backend = Tokenizer(models.Unigram(pieces, unk_id=1))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bert"))


def by_torch(folder: Path, name: str = "tiny") -> TextEmbedder:
    return SentenceTransformerEmbedder(load_sentence_transformer(folder, name, "cpu", torch.float32), name, "t" * 64)


def compiled(folder: Path, name: str = "tiny") -> TextEmbedder:
    embedder = open_compiled(folder, name, fingerprint(folder))
    assert embedder is not None
    return embedder


@pytest.fixture(scope="module", params=[by_torch, compiled])
def load(request: pytest.FixtureRequest) -> Load:
    """How a model is opened: what is tested with it holds for both implementations."""
    loader: Load = request.param
    return loader


@pytest.fixture(scope="module")
def embedder(load: Load, folder: Path) -> TextEmbedder:
    return load(folder)


@pytest.fixture(scope="module")
def minilm(load: Load) -> TextEmbedder:
    return load(resolve("all-minilm-l6-v2", "embedder"), "all-minilm-l6-v2")


# Vectors


def test_a_plain_bert_folder_gets_the_mean_of_the_last_hidden_states(folder: Path, embedder: TextEmbedder) -> None:
    bert = BertModel.from_pretrained(folder)
    assert embedder.tokenizer is not None
    ids = torch.tensor([embedder.tokenizer.encode("snow reflects light").ids])
    with torch.inference_mode():
        expected = bert(ids).last_hidden_state[0].mean(0).numpy()
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
    low = load_embedder(folder, name="m", fingerprint="m", device="cpu", dtype="bfloat16").embed_texts(TEXTS)
    assert low.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, atol=1e-6)
    assert (low * minilm.embed_texts(TEXTS)).sum(axis=1).min() > 0.998


def test_the_models_prompts_are_used(folder: Path, embedder: TextEmbedder, load: Load, tmp_path: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu", prompts={"query": "question ", "document": "page "})
    model.save(str(tmp_path))
    prompted = load(tmp_path)
    expected = embedder.encode_question("question snow"), embedder.encode_question("page snow")
    np.testing.assert_allclose(prompted.encode_question("snow"), expected[0], atol=1e-5)
    np.testing.assert_allclose(prompted.encode_passages(passages(["snow"]))[0], expected[1], atol=1e-5)


def test_threads_may_share_an_embedder(embedder: TextEmbedder) -> None:
    expected = [embedder.encode_question(text) for text in TEXTS]
    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(embedder.encode_question, TEXTS * 10))
    np.testing.assert_allclose(vectors, expected * 10, atol=1e-5)


# Text is data


def test_no_added_token_of_minilm_comes_out_of_text(minilm: TextEmbedder) -> None:
    assert minilm.tokenizer is not None
    added = minilm.tokenizer.get_added_tokens_decoder()
    first, last = map(minilm.tokenizer.token_to_id, ("[CLS]", "[SEP]"))
    assert len(added) >= 5
    for token in added.values():
        for text in (
            token.content,
            f"a{token.content}b",
            f" {token.content} ",
            token.content * 3,
            f"x\n{token.content}",
        ):
            ids = minilm.tokenizer.encode(text).ids
            assert (ids[0], ids[-1]) == (first, last)
            assert set(added).isdisjoint(ids[1:-1]), text


def test_no_control_token_of_minilm_reaches_the_model_in_text(minilm: TextEmbedder) -> None:
    plain, *written = minilm.embed_texts(["a b", *(f"a {name} b" for name in SPECIAL)])
    spelled = minilm.embed_texts([f"a {name[0]} {name[1:-1]} {name[-1]} b" for name in SPECIAL])
    np.testing.assert_allclose(written, spelled, atol=1e-5)
    assert (np.array(written) @ plain).max() < 0.95


def test_a_control_string_is_embedded_as_its_characters(minilm: TextEmbedder) -> None:
    written, spelled = minilm.encode_passages(passages(["a [SEP] b", "a [ sep ] b"]))
    np.testing.assert_allclose(written, spelled, atol=1e-5)


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
    plain = plain_text_tokenizer(made.backend_tokenizer.to_str(), made.unk_token_id)
    read_text_as_text(made)
    for token in [*SPECIAL, *markup]:
        for text in (token, f"a{token}b", f" {token} ", token * 2):
            assert control.isdisjoint(made.encode(text, add_special_tokens=False)), text
    for token in ordinary:
        assert made.convert_tokens_to_ids(token) in made.encode(f"a{token}b", add_special_tokens=False)
    ids = made.encode("a")
    assert (ids[0], ids[-1]) == (made.cls_token_id, made.sep_token_id)
    assert made.cls_token_id not in made.encode("［CLS］ <tool>", add_special_tokens=False)  # "[CLS]" when normalised
    for text in ("", "a", "snowball  a", "a [SEP] <tool> b", "[CLS][CLS]"):
        assert plain.encode(text).ids == made.encode(text), text


def test_a_tokenizer_that_cannot_tell_text_from_control_is_refused() -> None:
    pieces = [*SPECIAL, *LETTERS, "[C", "[CL", "[CLS", *"CLS"]
    merges = [("[", "C"), ("[C", "L"), ("[CL", "S"), ("[CLS", "]")]
    backend = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="cannot hide"):
        read_text_as_text(tokenizer(backend))


# What cannot be loaded


def test_a_missing_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no embedder at"):
        load_embedder(tmp_path / "missing", name="m", fingerprint="m")
    with pytest.raises(ModelError, match="cannot load embedder empty"):
        load_embedder(tmp_path, name="empty", fingerprint="e")


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_folder_is_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / damage).write_text("{")
    with pytest.raises(ModelError, match="cannot load embedder broken") as caught:
        load_embedder(tmp_path / "model", name="broken", fingerprint="b")
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_the_model_reads_has_the_mean_of_its_windows(minilm: TextEmbedder) -> None:
    assert minilm.window == 256
    words = [f"word{number % 97}" for number in range(600)]
    text = " ".join(words)
    vector, beginning = minilm.embed_texts([text, " ".join(words[:50])])
    assert minilm.tokenizer is not None
    spans = token_spans(text, minilm.tokenizer)
    pieces = [text[start:end] for start, end in windows(spans, 254, 0)]
    mean = np.average(minilm.embed_texts(pieces), axis=0, weights=list(map(len, pieces)))
    assert len(pieces) > 3
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert not np.allclose(vector, beginning, atol=0.02)


def test_the_end_of_a_long_text_counts(minilm: TextEmbedder) -> None:
    noise = " ".join(f"{number * 7919:x}" for number in range(300))
    texts = [noise, f"{noise} The keeper of the lighthouse is Morag Bain."]
    plain, answer = minilm.embed_texts(texts) @ minilm.encode_question("Who is the keeper of the lighthouse?")
    assert answer > plain + 0.01
