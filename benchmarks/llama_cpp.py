"""The CPU backend beside llama.cpp: `python -m benchmarks.llama_cpp`; needs `pip install xllamacpp`.

Both read the same prompt with the same decoder in 8 bits (Q8_0 for llama.cpp) on the same threads, in alternating
rounds; llama.cpp reads no passages beside the prompt, ragx attends to sixty.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.cpu_backend import IN_PROMPT, STEPS, K, questions, read_prompt, step_seconds
from benchmarks.tables import markdown
from ragx.config import EncodingOptions
from ragx.engine.backend import decoder_of
from ragx.engine.open import open_model
from ragx.models import resolve
from ragx.reader.prompt import build_prompt, passage_text
from ragx.util.device import cpu_threads

ROUNDS = 3


def main() -> None:
    """Print a Markdown table of medians."""
    import xllamacpp

    model, tokenizer = open_model(EncodingOptions(backend="cpu"))
    decoder = decoder_of(model)
    question, passages = next(questions(1))
    prompt = build_prompt(tokenizer, question, passages[:IN_PROMPT], max_tokens=6000)
    ids = tokenizer.plain_ids([passage_text(passage) for passage in passages[:K]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.gguf"
        write_gguf(path)
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = str(path), 4096, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cpu_threads()
        server = xllamacpp.Server(params)
        rows: dict[str, list[tuple[float, float]]] = {"llama.cpp, no passages": [], "ragx, 60 passages": []}
        for _ in range(ROUNDS):
            body = {"prompt": prompt.ids, "n_predict": STEPS, "temperature": 0, "cache_prompt": False}
            timings = server.handle_completions({**body, "ignore_eos": True})["timings"]
            rows["llama.cpp, no passages"].append((timings["prompt_ms"] / 1000, timings["predicted_per_token_ms"]))
            context = model.encode_passages(ids)
            context.attend_from = prompt.question_start
            sequence = decoder.sequence(context, len(prompt.ids) + STEPS + 1)
            start = time.perf_counter()
            read_prompt(decoder, sequence, prompt.ids)
            rows["ragx, 60 passages"].append((time.perf_counter() - start, 1000 * step_seconds(decoder, sequence)))
    cells = [[median(column) for column in zip(*values, strict=True)] for values in rows.values()]
    table = [(name, f"{first:.2f}", f"{token:.1f}") for name, (first, token) in zip(rows, cells, strict=True)]
    print(f"{len(prompt.ids)} tokens in the prompt; medians of {ROUNDS} alternating rounds.\n")
    print(markdown(("engine", "prompt, s", "token, ms"), table))
    print(f"\nragx / llama.cpp: prompt {cells[1][0] / cells[0][0]:.2f}, token {cells[1][1] / cells[0][1]:.2f}")


def write_gguf(path: Path) -> None:
    """Write the default reader's decoder as a Q8_0 GGUF file."""
    source = resolve("smollm2-135m-instruct", "decoder")
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype="float32")
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    writer.add_token_list(tokens)
    special = set(tokenizer.all_special_ids)
    kinds = [gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL for number in range(len(tokens))]
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight":
            continue  # tied to the embeddings
        weight = tensor.numpy()
        if "q_proj" in key:
            weight = _interleaved(weight, config.num_attention_heads)
        if "k_proj" in key:
            weight = _interleaved(weight, config.num_key_value_heads)
        name = names.get_name(key, try_suffixes=(".weight",)) or key
        kind = gguf.GGMLQuantizationType.Q8_0 if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in llama.cpp's order: rotary pairs stand beside each other."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


if __name__ == "__main__":
    main()
