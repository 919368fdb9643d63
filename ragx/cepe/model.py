"""CEPE: a passage encoder and cross-attention inserted into a frozen Llama-family decoder (paper section 2.1).

`cepe_class(LlamaForCausalLM)` is a transformers model with `from_pretrained` and `generate`. Its state dict has the
decoder's keys unchanged, plus `encoder.*` and `model.layers.{i}.cross_attn.*`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ragx_kernels.cross_attention import Shape, choose, device_profile
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

from ragx.cepe.context import Context, Contexts, pad
from ragx.cepe.cross_attention import CrossAttention
from ragx.cepe.encoder import PassageEncoder
from ragx.cepe.encodings import pack_rows, stored_context
from ragx.cepe.store import OnEncoded, Passages, PassageStore, Rows
from ragx.types import AttentionStrategy, CrossAttend, EncodingFormat
from ragx.util.device import free_memory

if TYPE_CHECKING:
    from ragx.extensible.embedder import ExtensibleEmbedder

ENCODER_BATCH_TOKENS = 32_768
"""Tokens per encoder batch (or one longer passage), which limits the encoder's memory."""
TYPICAL_ANSWER = 128
"""Decoding steps over which projection cost is amortised when strategies are compared."""


@cache
def cepe_class(decoder_class: type[PreTrainedModel]) -> type[CepeModel]:
    """The CEPE model class around `decoder_class`, a causal language model of the Llama family."""
    return type(f"Cepe{decoder_class.__name__}", (CepeModel, decoder_class), {})


class CepeModel(PreTrainedModel, GenerationMixin):
    """The methods and modules that `cepe_class` adds to a decoder class.

    Its config is the decoder's plus `encoder_config`, `cross_attention_layers` (indices), `shared_embeddings`,
    `shared_encoder_layers` (how many of the encoder's first layers are the decoder's own), and optionally
    `trained_context_tokens`, `prompted_gain`, the context's `gain` if some passages are also in the prompt, and
    `cross_attend`.
    """

    model: Any
    """The decoder's stack, a transformers class."""
    _no_split_modules: set[str]
    encoder: PassageEncoder
    attention_strategy: AttentionStrategy = "auto"
    """How decoding attends to passages; `auto` chooses by the device's speed and free memory."""
    sharpen_beyond: int | None = None
    """Of the contexts it makes."""
    plugged_in: str | None = None
    """Identifies the reader and its decoder, if that is not the one it was trained with."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.extensible: ExtensibleEmbedder | None = None
        """Makes the embeddings that the decoder reads before its prompt, if it was loaded with one."""
        self.encoder = PassageEncoder(config.encoder_config, own_embeddings=not config.shared_embeddings)
        for index, layer in enumerate(self.model.layers):
            # Subclassing the layer's class keeps the names of its weights, and hooks that look for the class find it.
            layer.__class__ = _layer_class(layer.__class__)
            layer.cross_attn = self._cross_attention(index) if index in config.cross_attention_layers else None
        self.post_init()  # type: ignore[no-untyped-call]
        # spreading a model over GPUs must not split the encoder or a layer
        self._no_split_modules |= {"PassageEncoder", *(type(layer).__name__ for layer in self.model.layers)}

    def _cross_attention(self, index: int) -> CrossAttention:
        config = self.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        norm_class = type(self.model.norm)
        return CrossAttention(
            index,
            norm=norm_class(config.hidden_size, eps=config.rms_norm_eps),
            decoder_width=config.hidden_size,
            encoder_width=config.encoder_config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=head_dim,
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Transformers' `save_pretrained`, in the layout of the authors' checkpoints."""
        super().save_pretrained(save_directory, **kwargs)
        path = Path(save_directory) / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        if self.config.model_type == "llama":
            values["architectures"] = ["LlamaForCausalContextLM"]
        values["do_cross_attention"] = True
        values["encoder_hidden_size"] = self.config.encoder_config.hidden_size
        values["num_cross_attn_layers"] = len(self.config.cross_attention_layers)
        for config in (values, values["encoder_config"]):  # for transformers before version 5
            config["rope_theta"] = config["rope_parameters"]["rope_theta"]
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def window(self) -> int:
        """Maximum number of tokens of prompt and answer."""
        return int(self.config.max_position_embeddings)

    @property
    def encoder_window(self) -> int:
        """Maximum number of tokens of a passage that the encoder reads."""
        return int(self.config.encoder_config.max_position_embeddings)

    @property
    def encoder_width(self) -> int:
        """E."""
        return int(self.config.encoder_config.hidden_size)

    @property
    def encoder_dtype(self) -> str:
        """Number format of the encoder's weights, such as float32."""
        return str(self.encoder.norm.weight.dtype).removeprefix("torch.")

    @property
    def end_tokens(self) -> set[int]:
        """The decoder's own tokens that end an answer."""
        ends = self.generation_config.eos_token_id
        return {*(ends if isinstance(ends, list) else [ends])} - {None}

    @property
    def prompted_gain(self) -> float:
        """The context's `gain` if some passages are also in the prompt."""
        return float(getattr(self.config, "prompted_gain", 1.0))

    @property
    def cross_attend(self) -> CrossAttend:
        """Which tokens of a prompt attend to the passages: `all`, or those of the `question` and what follows it."""
        value: CrossAttend = getattr(self.config, "cross_attend", "all")
        return value

    @property
    def is_trained(self) -> bool:
        """Whether cross-attention has an effect: a fresh reader's output projections are all zero."""
        layers = [layer.cross_attn for layer in self.model.layers if layer.cross_attn is not None]
        return any(bool(cross.o_proj.weight.any()) for cross in layers)

    def encoder_fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines an encoding: weights, embeddings, number format and settings."""
        digest = hashlib.sha256(self.config.encoder_config.to_json_string(use_diff=False).encode())
        weights = dict(self.encoder.state_dict())
        if self.config.shared_embeddings:
            weights["embed_tokens.weight"] = self.model.embed_tokens.weight
        for name, tensor in sorted(weights.items()):
            digest_tensor(digest, name, tensor)
        return digest.hexdigest()

    def weights_digest(self) -> str:
        """The first 16 hex digits of a SHA-256 over every weight and its number format."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest_tensor(digest, name, tensor)
        return digest.hexdigest()[:16]

    def encode(self, encoder_input_ids: Tensor, encoder_attention_mask: Tensor | None = None) -> Context:
        """Encode the passages of each question.

        Args:
            encoder_input_ids: (B, K, L).
            encoder_attention_mask: (B, K, L), nonzero for tokens; None: all. A fully masked passage counts as absent.

        Returns:
            Φ of every unmasked token, (B, M, E).
        """
        if encoder_input_ids.ndim != 3:
            raise ValueError(f"encoder_input_ids must be (B, K, L), got {tuple(encoder_input_ids.shape)}")
        if encoder_attention_mask is None:
            keep = torch.ones_like(encoder_input_ids, dtype=torch.bool)
        else:
            keep = encoder_attention_mask.bool()
        positions = torch.arange(encoder_input_ids.shape[2], device=keep.device).expand_as(keep)
        lengths = keep.sum(dim=2)  # (B, K)
        packed = self._encode_packed(encoder_input_ids[keep], positions[keep], lengths.flatten().tolist())
        return self.ready(pad(packed.split(lengths.sum(dim=1).tolist()), lengths.tolist()))

    @property
    def encoded_limit(self) -> int:
        """Tokens of passages that half of the free memory holds while a question is answered."""
        weight = self.model.embed_tokens.weight
        phi = 3 * self.encoder_width  # as encoded, as stored and as attended to
        keys_values = 2 * self.config.hidden_size  # of one layer: those of all are kept only where there is memory
        return free_memory(weight.device) // 2 // int((phi + keys_values) * weight.element_size())

    def encode_passages(
        self, passages: Passages, store: PassageStore | None = None, on_encoded: OnEncoded | None = None
    ) -> Context:
        """Encode one question's passages, token ids of any length, without padding: Φ (1, M, E).

        With a store, passages that it misses are stored, and all are used in the stored format, so that answers do not
        depend on whether a passage was stored before: Φ is in the model's number format, or int8 from an int8 store.
        """
        if store is not None:
            rows = store.encode(passages, lambda batch: self.encode_rows(batch, store.format), on_encoded)
            return self.ready(stored_context(rows, [len(passage) for passage in passages], self.encoder.norm.weight))
        lengths = [len(passage) for passage in passages]
        device = self.model.embed_tokens.weight.device
        ids = torch.tensor([token for passage in passages for token in passage], dtype=torch.long, device=device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths]) if lengths else ids
        return self.ready(pad([self._encode_packed(ids, positions, lengths)], [lengths]))

    def encode_rows(self, passages: Passages, format: EncodingFormat) -> Rows:
        """Encode passages in one batch: their concatenated rows (M, E) in a stored format."""
        with torch.no_grad():
            return pack_rows(self.encode_passages(passages).phi[0], format)

    def ready(self, context: Context) -> Context:
        """Set the attention strategy of `context`: `attention_strategy`, or the cheapest on this device."""
        context.sharpen_beyond = self.sharpen_beyond
        if self.attention_strategy != "auto":
            context.strategy = self.attention_strategy
            return context
        if not self.config.cross_attention_layers:
            return context
        attention = self.model.layers[self.config.cross_attention_layers[0]].cross_attn
        weight = attention.k_proj.weight
        shape = Shape(
            queries=1,
            tokens=context.phi.shape[0] * context.tokens,
            heads=self.config.num_attention_heads,
            kv_heads=self.config.num_key_value_heads,
            head_dim=attention.head_dim,
            encoder_width=context.phi.shape[2],
            layers=len(self.config.cross_attention_layers),
            itemsize=weight.element_size(),
            phi_itemsize=context.phi.element_size(),
            on_gpu=weight.is_cuda,
        )
        profile = device_profile(str(weight.device), weight.dtype)
        context.strategy = choose(shape, profile, memory=free_memory(weight.device) // 4, steps=TYPICAL_ANSWER)
        return context

    def _encode_packed(self, ids: Tensor, positions: Tensor, lengths: list[int]) -> Tensor:
        """Token ids and positions (T,) of concatenated passages -> (T, E)."""
        if ids.numel() == 0:
            width = self.config.encoder_config.hidden_size
            return torch.empty(0, width, dtype=self.dtype, device=ids.device)
        embed: Any = self.model.embed_tokens if self.config.shared_embeddings else self.encoder.embed_tokens
        encoded = []
        start = 0
        for batch in _batches(lengths, ENCODER_BATCH_TOKENS):
            part = slice(start, start := start + sum(batch))
            encoded.append(self.encoder(embed(ids[part])[None], positions[part][None], batch)[0])
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_input_ids: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        context: Contexts | None = None,
        **kwargs: Any,
    ) -> Any:
        """The decoder's forward pass, attending to passages if there are any.

        Args:
            input_ids: (B, N).
            attention_mask: (B, N).
            encoder_input_ids: (B, K, L), passages to encode, unless `context` is given.
            encoder_attention_mask: (B, K, L).
            context: a result of `encode`, or one context per row.
            kwargs: the decoder's other arguments.

        Returns:
            The decoder's output; `.logits` is (B, N, V).
        """
        context = self._context(encoder_input_ids, encoder_attention_mask, context)
        if isinstance(context, Context):
            past = kwargs.get("past_key_values")
            context.skipped = max(0, context.attend_from - (past.get_seq_length() if past is not None else 0))
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, context=context, **kwargs)

    def generate(
        self,
        inputs: Tensor | None = None,
        *args: Any,
        encoder_input_ids: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> Any:
        """transformers' `generate`; passages are encoded once, before the first token."""
        with torch.no_grad():
            contexts = self._context(encoder_input_ids, encoder_attention_mask, context)
        return super().generate(inputs, *args, context=contexts, **kwargs)  # type: ignore[misc]

    def _context(self, ids: Tensor | None, mask: Tensor | None, context: Contexts | None) -> Contexts | None:
        if ids is None:
            return context
        if context is not None:
            raise ValueError("pass either encoder_input_ids or context, not both")
        return self.encode(ids, mask)

    def _expand_inputs_for_generation(self, expand_size: int = 1, **kwargs: Any) -> Any:  # type: ignore[override]
        context = kwargs.pop("context", None)
        expanded: Any = super()._expand_inputs_for_generation(expand_size=expand_size, **kwargs)  # type: ignore[misc]
        if context is not None:
            expanded[1]["context"] = context.repeat_interleave(expand_size) if expand_size > 1 else context
        return expanded


def digest_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor's name, number format, shape and values to a digest."""
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _batches(lengths: list[int], size: int) -> Iterator[list[int]]:
    """Consecutive lengths that sum to at most `size`, or a single larger one."""
    batch: list[int] = []
    for length in lengths:
        if batch and sum(batch) + length > size:
            yield batch
            batch = []
        batch.append(length)
    if batch:
        yield batch


@cache
def _layer_class(layer_class: type[nn.Module]) -> type[nn.Module]:
    return type(f"{layer_class.__name__}WithCrossAttention", (_CrossAttentionLayer, layer_class), {})


class _CrossAttentionLayer(nn.Module):
    """A pre-norm decoder layer with cross-attention between self-attention and the feed-forward network."""

    input_layernorm: nn.Module
    self_attn: nn.Module
    cross_attn: CrossAttention | None
    post_attention_layernorm: nn.Module
    mlp: nn.Module

    def forward(self, hidden_states: Tensor, context: Contexts | None = None, **kwargs: Any) -> Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        if context is not None and self.cross_attn is not None:
            hidden_states = hidden_states + self.cross_attn(hidden_states, context)
        output: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return output
