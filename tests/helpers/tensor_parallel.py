"""What a reader computes, for processes that share its decoder.

python -m tests.helpers.tensor_parallel READER

Each process prints a JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from ragx import cepe
from ragx.config import SamplingParams
from ragx.reader.cepe import CepeReader
from ragx.util.tokenization import load_tokenizer
from tests.helpers.toy_embedders import passages

QUESTION = "What reflects light?"
TEXTS = ["Snow reflects light.", "Soil is dark.", "The sea is blue."]


def computed(model: Any) -> dict[str, Any]:
    """Logits and tokens by transformers' own `generate`, and an answer by ragx's engine."""
    ids, passage_ids = torch.arange(5, 25)[None], torch.arange(5, 35).reshape(1, 3, 10)
    with torch.inference_mode():
        logits = model(ids, encoder_input_ids=passage_ids).logits[0, -1]
    generated = model.generate(ids, encoder_input_ids=passage_ids, max_new_tokens=8, do_sample=False)
    reader = CepeReader(model, load_tokenizer(model.name_or_path))
    sampling = SamplingParams(max_new_tokens=8)
    answer = "".join(
        reader.stream(reader.prepare(QUESTION, passages(TEXTS), prompt_passages=1, sampling=sampling), sampling)
    )
    return {"logits": logits.tolist(), "generated": generated.tolist(), "answer": answer}


def main() -> None:
    torch.distributed.init_process_group("gloo")
    model = cepe.load(sys.argv[1], dtype="float32", tensor_parallel=True)
    parts = [parameter.to_local() for parameter in model.parameters() if hasattr(parameter, "to_local")]
    print(json.dumps(computed(model) | {"weights": sum(part.numel() for part in parts)}), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
