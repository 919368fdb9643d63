"""The CPU backend beside llama.cpp and CTranslate2: `python -m benchmarks.other_engines`.

Needs `pip install xllamacpp ctranslate2`; without one of them, that engine is left out. All read the same prompt with
the same decoder in 8 bits (Q8_0 for llama.cpp, int8 for CTranslate2) on the same threads, in alternating rounds. The
others read no passages beside the prompt, ragx attends to sixty.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.cpu_backend import IN_PROMPT, STEPS, K, questions, read_prompt, step_seconds
from benchmarks.tables import markdown
from ragx.config import EncodingOptions
from ragx.engine.backend import decoder_of
from ragx.engine.open import open_model
from ragx.models import resolve
from ragx.reader.prompt import Prompt, build_prompt, passage_text
from ragx.util.device import cpu_threads

if TYPE_CHECKING:
    from ragx.util.tokenization import Tokenizer

ROUNDS = 3
DECODER = "smollm2-135m-instruct"
"""The default reader's."""


Round = Callable[[], tuple[float, float]]
"""Reads the prompt and decodes; seconds of the prompt, and of a token."""


def main() -> None:
    """Print a Markdown table of medians."""
    model, tokenizer = open_model(EncodingOptions(backend="cpu"))
    question, passages = next(questions(1))
    prompt = build_prompt(tokenizer, question, passages[:IN_PROMPT], max_tokens=6000)
    ids = tokenizer.plain_ids([passage_text(passage) for passage in passages[:K]])
    engines: dict[str, Round] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, package, opened in (("llama.cpp", "xllamacpp", _llama_cpp), ("CTranslate2", "ctranslate2", _ct2)):
            if find_spec(package) is None:
                print(f"{name} is left out: pip install {package}")
            else:
                engines[f"{name} {version(package)}, no passages"] = opened(Path(folder), prompt.ids, tokenizer)
        engines[f"ragx, {K} passages"] = partial(_ragx, model, ids, prompt)
        rounds = [[engine() for engine in engines.values()] for _ in range(ROUNDS)]
    cells = [[median(column) for column in zip(*each, strict=True)] for each in zip(*rounds, strict=True)]
    table = [
        (name, f"{first:.2f}", f"{1000 * token:.1f}", f"{cells[-1][0] / first:.2f}", f"{cells[-1][1] / token:.2f}")
        for name, (first, token) in zip(engines, cells, strict=True)
    ]
    print(f"{len(prompt.ids)} tokens in the prompt, {cpu_threads()} threads; medians of {ROUNDS} alternating rounds.\n")
    print(markdown(("engine", "prompt, s", "token, ms", "ragx / this, prompt", "ragx / this, token"), table))


def _ragx(model: Any, ids: list[list[int]], prompt: Prompt) -> tuple[float, float]:
    decoder = decoder_of(model)
    context = model.encode_passages(ids)
    context.attend_from = prompt.question_start
    sequence = decoder.sequence(context, len(prompt.ids) + STEPS + 1)
    start = time.perf_counter()
    read_prompt(decoder, sequence, prompt.ids)
    return time.perf_counter() - start, step_seconds(decoder, sequence)


def _llama_cpp(folder: Path, prompt: list[int], tokenizer: Tokenizer) -> Round:
    import xllamacpp

    path = folder / "decoder.gguf"
    write_gguf(path)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 4096, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cpu_threads()
    server = xllamacpp.Server(params)

    def run() -> tuple[float, float]:
        body = {"prompt": prompt, "n_predict": STEPS, "temperature": 0, "cache_prompt": False}
        timings = server.handle_completions({**body, "ignore_eos": True})["timings"]
        return timings["prompt_ms"] / 1000, timings["predicted_per_token_ms"] / 1000

    return run


def _ct2(folder: Path, prompt: list[int], tokenizer: Tokenizer) -> Round:
    import ctranslate2

    path = str(folder / "ctranslate2")
    source = str(resolve(DECODER, "decoder"))
    ctranslate2.converters.TransformersConverter(source).convert(path, quantization="int8")
    generator = ctranslate2.Generator(path, "cpu", compute_type="int8", inter_threads=1, intra_threads=cpu_threads())
    tokens = [tokenizer.backend.id_to_token(each) for each in prompt]

    def seconds(count: int) -> float:
        start = time.perf_counter()
        generator.generate_batch(
            [tokens], min_length=count, max_length=count, sampling_topk=1, include_prompt_in_result=False
        )
        return time.perf_counter() - start

    def run() -> tuple[float, float]:
        first = seconds(1)
        return first, (seconds(1 + STEPS) - first) / STEPS

    return run


def write_gguf(path: Path) -> None:
    """Write the default reader's decoder as a Q8_0 GGUF file."""
    source = resolve(DECODER, "decoder")
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
