"""Compile a reader: write its graphs and 8-bit weights into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ragx.engine.cpu.graphs import Stack, build_decoder, build_encoder, build_passages
from ragx.engine.cpu.settings import EMBEDDINGS, ENCODER_EMBEDDINGS, SETTINGS, CompiledSettings
from ragx.onnx.graph import Graph, WeightsFile

if TYPE_CHECKING:
    from ragx.cepe.model import CepeModel


@torch.no_grad()
def compile_reader(model: CepeModel, folder: Path) -> None:
    """Write the graphs, weights and settings of `model` (float32, on the CPU) into an empty folder."""
    config: Any = model.config
    weights = {key: tensor.float().numpy() for key, tensor in model.state_dict().items()}
    decoder, encoder = stack(config), stack(config.encoder_config)
    cross = list(config.cross_attention_layers) if model.is_trained else []
    rotary = rotary_tables(model.model.rotary_emb, config.max_position_embeddings)
    with WeightsFile(folder) as file:
        for name, prompt in (("prompt", True), ("step", False)):
            graph = Graph(file)
            build_decoder(graph, decoder, weights, rotary, cross, prompt=prompt)
            graph.save(folder / f"{name}.onnx")
        if cross:
            graph = Graph(file)
            build_passages(graph, decoder, weights, cross)
            graph.save(folder / "passages.onnx")
            graph = Graph(file)
            window = config.encoder_config.max_position_embeddings
            build_encoder(graph, encoder, weights, rotary_tables(model.encoder.rotary_emb, window))
            graph.save(folder / "encoder.onnx")
    np.save(folder / EMBEDDINGS, weights["model.embed_tokens.weight"])
    if cross and not config.shared_embeddings:
        np.save(folder / ENCODER_EMBEDDINGS, weights["encoder.embed_tokens.weight"])
    settings = CompiledSettings(
        window=model.window,
        heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        layers=decoder.layers,
        cross_layers=tuple(cross),
        end_tokens=tuple(sorted(model.end_tokens)),
        encoder_window=model.encoder_window,
        encoder_fingerprint=model.encoder_fingerprint(),
        prompted_gain=model.prompted_gain,
        cross_attend=model.cross_attend,
    )
    (folder / SETTINGS).write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")


def stack(config: Any) -> Stack:
    """The shape of the stack that a transformers configuration describes."""
    layers = config.num_hidden_layers
    rotary = getattr(config, "no_rope_layers", None) or [1] * layers  # 1: the layer has positions
    return Stack(
        layers=layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        epsilon=config.rms_norm_eps,
        rotary=[bool(each) for each in rotary],
    )


def rotary_tables(embedding: Any, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (positions, D/2) of a transformers rotary embedding."""
    tables = embedding(torch.zeros(1), torch.arange(positions)[None])
    cos, sin = (table[0, :, : table.shape[2] // 2].float().numpy() for table in tables)
    return cos, sin
