"""Answers in JSON: whatever the model prefers, the text fits the schema."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ragx import cepe
from ragx.config import SamplingParams
from ragx.engine.json_constraint import JsonConstraint
from ragx.errors import ConfigError
from ragx.reader.full import FullReader
from ragx.util.tokenization import Tokenizer, load_tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["white", "dark"]}, "percent": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "percent"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_decoder: Path) -> Tokenizer:
    return load_tokenizer(tiny_decoder)


@pytest.fixture(scope="module")
def reader(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> FullReader:
    folder = Path(shutil.copytree(tiny_decoder, tmp_path_factory.mktemp("decoder"), dirs_exist_ok=True))
    return FullReader(cepe.load(str(folder), dtype="float32", device="cpu"), load_tokenizer(folder))


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_fits_the_schema_and_ends(reader: FullReader, seed: int) -> None:
    sampling = SamplingParams(max_new_tokens=200, temperature=2.0, seed=seed, json_schema=json.dumps(SCHEMA))
    prepared = reader.prepare("How white?", [], prompt_passages=0, sampling=sampling)
    stream = reader.stream(prepared, sampling)
    jsonschema.validate(json.loads("".join(stream)), SCHEMA)
    assert stream.finish == "stop"


def test_only_the_end_follows_whole_json(tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_token_id
    assert end is not None
    constraint = JsonConstraint('{"const": 7}', tokenizer, {end})
    size = tokenizer.backend.get_vocab_size()
    allowed = constraint.allowed(size + 5)  # embeddings padded to a round number
    assert not allowed[size:].any()
    assert not allowed[end]
    (seven,) = tokenizer.plain_ids(["7"])[0]
    assert allowed[seven]
    constraint.accept(seven)
    assert np.flatnonzero(constraint.allowed(size)).tolist() == [end]


@pytest.mark.parametrize("schema", ['{"type": 5}', "{", '{"$ref": "https://example.com/schema.json"}'])
def test_a_schema_that_cannot_be_enforced_is_refused(tokenizer: Tokenizer, schema: str) -> None:
    with pytest.raises(ConfigError, match="JSON schema"):
        JsonConstraint(schema, tokenizer, {0})
