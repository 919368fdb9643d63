"""Write a reader with its decoder into a folder that vLLM can open: python -m ragx_vllm.export READER FOLDER."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ragx.errors import ModelError, RagxError
from ragx_vllm import ARCHITECTURES


def export(reader: str, folder: Path, *, dtype: str = "bfloat16", max_passage_tokens: int | None = None) -> None:
    """Write config.json, all weights and the tokenizer.

    Args:
        reader: a registered name, a folder or a Hub id.
        folder: created if missing.
        dtype: number format of the weights.
        max_passage_tokens: the most tokens of a request's passages; None: the decoder's window.

    Raises:
        ModelError: the reader cannot be loaded, has no cross-attention, or vLLM has no decoder of its kind; or
            the folder cannot be written.
    """
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    from ragx import cepe

    model = cepe.load(reader, dtype=dtype, device="cpu", plain=True)
    kind = str(model.config.model_type)
    if not model.config.cross_attention_layers:
        raise ModelError(f"{reader} has no CEPE reader; vLLM serves it as it is")
    if kind not in ARCHITECTURES:
        raise ModelError(f"{reader}: model type {kind!r} is not one of {', '.join(ARCHITECTURES)}")
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, local_files_only=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # save_pretrained only logs that it is a file
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        path = folder / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        values["architectures"] = [ARCHITECTURES[kind]]
        values["is_encoder_decoder"] = True  # so that vLLM keeps a cache for cross-attention
        values["max_source_positions"] = max_passage_tokens or model.window
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write {folder}: {error}") from None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m ragx_vllm.export", description=__doc__)
    parser.add_argument("reader", help="a registered name, a folder or a Hub id")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--max-passage-tokens", type=int, help="of a request; default: the decoder's window")
    given = parser.parse_args()
    try:
        export(given.reader, given.folder, dtype=given.dtype, max_passage_tokens=given.max_passage_tokens)
    except RagxError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
