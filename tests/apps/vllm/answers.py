"""Answers of vLLM on the CPU: python answers.py FOLDER REQUESTS OVERRIDES prints tokens and logprobs of each batch.

REQUESTS is a JSON file with a list of batches; in a request, `passages` is what `multi_modal_data` gets, or missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ragx_vllm
import torch
from vllm import LLM, SamplingParams


def prompt(request: dict[str, Any]) -> dict[str, Any]:
    passages = request.get("passages")
    if passages is None:
        return {"prompt_token_ids": request["ids"]}
    if isinstance(passages, dict) and "encodings" in passages:
        passages["encodings"] = torch.tensor(passages["encodings"])
    return {"prompt_token_ids": request["ids"], "multi_modal_data": {"passages": passages}}


def main(folder: str, requests: str, overrides: str) -> None:
    ragx_vllm.register()
    model = LLM(
        folder,
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_batched_tokens=1024,
        max_num_seqs=8,
        hf_overrides=json.loads(overrides),
    )
    sampling = SamplingParams(temperature=0, max_tokens=12, logprobs=20)
    answers = []
    for batch in json.loads(Path(requests).read_text()):
        outputs = [
            each.outputs[0] for each in model.generate([prompt(request) for request in batch], sampling, use_tqdm=False)
        ]
        answers.append(
            [
                {
                    "tokens": list(output.token_ids),
                    "logprobs": [{token: entry.logprob for token, entry in step.items()} for step in output.logprobs],
                }
                for output in outputs
            ]
        )
    print("ANSWERS", json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
