"""The ONNX graphs of a reader: its decoder, its passage encoder, and the keys and values of passages."""

from ragx.engine.cpu.graphs.decoder import build_decoder
from ragx.engine.cpu.graphs.encoder import build_encoder
from ragx.engine.cpu.graphs.layers import Stack
from ragx.engine.cpu.graphs.passages import build_passages

__all__ = ["Stack", "build_decoder", "build_encoder", "build_passages"]
