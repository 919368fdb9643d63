"""CEPE readers as vLLM models: vLLM's own decoders, with a passage encoder and cross-attention.

vLLM treats a reader as an encoder-decoder model: in the step that reads a prompt, the model gets Φ of its passages, and
each cross-attention layer writes their keys and values into vLLM's cache, from which later steps read them. vLLM reads
such a prompt whole, in one step, and does not reuse its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.attention import CrossAttention as CachedAttention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import ColumnParallelLinear, RowParallelLinear
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.interfaces import SupportsMultiModal
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.multimodal import MULTIMODAL_REGISTRY

from ragx.cepe.encoder import PassageEncoder
from ragx.cepe.fresh import is_added
from ragx.cepe.loading import decoder_config
from ragx_vllm.passages import ReaderSettings, fingerprint, order_of
from ragx_vllm.processing import DummyPassages, PassagesInfo, PassagesProcessor


class Prefill(NamedTuple):
    """What a step that reads prompts needs of their passages. T: rows of Φ of all prompts, N: tokens of the step."""

    phi: Tensor
    """(T, E)."""
    keys: Tensor
    """(T, 1), factors of the keys."""
    values: Tensor
    """(T, 1), factors of the values. They scale the attention's output, because a request has one."""
    attending: Tensor | None
    """(N, 1), 1 at tokens that attend, 0 at others; None: all attend."""


class Step:
    """The current forward pass, which all cross-attention layers share."""

    prefill: Prefill | None = None
    """None: the keys and values of all passages are in the cache."""


class ZeroedAttention(CachedAttention):
    """Attention to cached keys and values that gives zeros to requests without any.

    vLLM does not show prompts without passages to the processor, and some of its kernels leave their rows as they are.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attend = self.impl.forward

        def forward(*tensors: Any, output: Tensor, **others: Any) -> Tensor:
            attended: Tensor = attend(*tensors, output=output.zero_(), **others)
            return attended

        self.impl.forward = forward


class CrossAttention(nn.Module):
    """o_proj(softmax(q_proj(x) · k_proj(Φ)ᵀ / √D) · v_proj(Φ)) for normed x (paper section 2.1)."""

    def __init__(self, vllm_config: VllmConfig, reader: ReaderSettings, step: Step, prefix: str) -> None:
        super().__init__()
        config, parts = vllm_config.model_config.hf_config, get_tensor_model_parallel_world_size()
        width, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        if kv_heads % parts:
            raise ValueError(f"{kv_heads} key/value heads cannot be divided by tensor_parallel_size {parts}")
        head_dim = getattr(config, "head_dim", None) or width // heads
        # the added weights stay unquantized, as everywhere in ragx
        self.q_proj = ColumnParallelLinear(width, heads * head_dim, bias=False, prefix=f"{prefix}.q_proj")
        self.k_proj = ColumnParallelLinear(
            reader.encoder_width, kv_heads * head_dim, bias=False, prefix=f"{prefix}.k_proj"
        )
        self.v_proj = ColumnParallelLinear(
            reader.encoder_width, kv_heads * head_dim, bias=False, prefix=f"{prefix}.v_proj"
        )
        self.o_proj = RowParallelLinear(heads * head_dim, width, bias=False, prefix=f"{prefix}.o_proj")
        self.layernorm = RMSNorm(width, eps=config.rms_norm_eps)
        self.attn = ZeroedAttention(
            heads // parts,
            head_dim,
            head_dim**-0.5,
            num_kv_heads=kv_heads // parts,
            cache_config=vllm_config.cache_config,
            prefix=f"{prefix}.attn",
        )
        self._step = step

    def forward(self, normed: Tensor) -> Tensor:
        """The term to add to the residual stream: (N, W) -> (N, W)."""
        query, _ = self.q_proj(normed)
        key = value = None
        prefill = self._step.prefill
        if prefill is not None:
            key = self.k_proj(prefill.phi)[0] * prefill.keys  # (T, G·D)
            value = self.v_proj(prefill.phi)[0] * prefill.values
        attended = self.attn(query, key, value)  # (N, H·D)
        if prefill is not None and prefill.attending is not None:
            attended = attended * prefill.attending
        output: Tensor = self.o_proj(attended)[0]
        return output


class _CrossAttentionLayer(nn.Module):
    """One of vLLM's decoder layers, with cross-attention between self-attention and the feed-forward network."""

    input_layernorm: Any
    self_attn: nn.Module
    cross_attn: CrossAttention
    post_attention_layernorm: Any
    mlp: nn.Module

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """As the layers of vLLM do: the residual stream is the sum of the two results, each (N, W)."""
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        hidden_states, residual = self.cross_attn.layernorm(hidden_states, residual)
        hidden_states = self.cross_attn(hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        output: Tensor = self.mlp(hidden_states)
        return output, residual


class CepeForCausalLM(nn.Module, SupportsMultiModal):
    """What a reader adds to one of vLLM's decoder classes, which comes next in the order of base classes."""

    model: Any
    config: Any

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise ValueError("a CEPE reader needs pipeline_parallel_size 1: its encoder's output is not sent on")
        if vllm_config.cache_config.sliding_window is not None:
            raise ValueError("a CEPE reader attends to all passages: set disable_sliding_window for this decoder")
        self.reader = ReaderSettings.of(self.config)
        self._step = Step()
        self._dtype = vllm_config.model_config.dtype
        values = self.config.encoder_config
        encoder = decoder_config(dict(values) if isinstance(values, dict) else values.to_dict())
        encoder.dtype = self._dtype
        self.encoder = PassageEncoder(encoder, own_embeddings=not self.config.shared_embeddings)
        self._layer_names = []
        for index in self.config.cross_attention_layers:
            layer, name = self.model.layers[index], f"model.layers.{index}.cross_attn"
            # a subclass keeps the names of the layer's weights
            layer.__class__ = type(f"{type(layer).__name__}WithCrossAttention", (_CrossAttentionLayer, type(layer)), {})
            layer.cross_attn = CrossAttention(vllm_config, self.reader, self._step, name)
            self._layer_names.append(f"{name}.attn")

    def embed_input_ids(self, input_ids: Tensor, *_: object, **__: object) -> Tensor:
        """(N,) -> (N, W); passages have no place in the prompt."""
        embeddings: Tensor = self.model.embed_input_ids(input_ids)
        return embeddings

    def embed_multimodal(self, **kwargs: Any) -> list[Tensor]:
        """Φ of each request's passages, (M, E), with five numbers beside every row: (M, E + 5) float32.

        They are the request's `Factors`, and its prompt's length and fingerprint. They travel with Φ, because it is all
        that vLLM brings from here to the forward pass.
        """
        names = ("token_ids", "lengths", "encodings", "factors", "prompt")
        if kwargs.get("factors") is None:
            return []
        return [self._encoded(*item) for item in zip(*(kwargs[name] for name in names), strict=True)]

    def _encoded(self, ids: Tensor, lengths: Tensor, encodings: Tensor, factors: Tensor, prompt: Tensor) -> Tensor:
        if len(encodings):
            phi = encodings.to(self._dtype)
        elif len(ids):
            phi = self._encode(ids, lengths.tolist())
        else:  # no passages: a row of zeros has values of zero
            phi = torch.zeros(1, self.reader.encoder_width, device=factors.device)
        tokens = prompt.tolist()
        place = torch.tensor([len(tokens), fingerprint(tokens)], device=factors.device)
        return torch.cat([phi.float(), torch.cat([factors, place]).expand(len(phi), -1)], dim=1)

    def _encode(self, ids: Tensor, lengths: list[int]) -> Tensor:
        """Token ids (M,) of concatenated passages -> Φ (M, E)."""
        positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])
        embed: Any = self.model.embed_tokens if self.config.shared_embeddings else self.encoder.embed_tokens
        phi: Tensor = self.encoder(embed(ids)[None], positions[None], lengths)[0]
        return phi

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: object = None,
        inputs_embeds: Tensor | None = None,
        encoder_outputs: Sequence[Tensor] = (),
        **_: object,
    ) -> Tensor:
        """The decoder's last hidden states, (N, W).

        Args:
            input_ids: (N,), the tokens of all requests in this step, one request after another.
            positions: (N,), each token's position in its request.
            intermediate_tensors: unused, as pipelines are refused.
            inputs_embeds: (N, W), instead of `input_ids`.
            encoder_outputs: results of `embed_multimodal` of the requests whose prompt is read in this step.
        """
        self._step.prefill = self._prefill(encoder_outputs, input_ids, positions) if encoder_outputs else None
        try:
            hidden: Tensor = self.model(input_ids, positions, intermediate_tensors, inputs_embeds)
        finally:
            self._step.prefill = None
        return hidden

    def _prefill(self, encoder_outputs: Sequence[Tensor], input_ids: Tensor | None, positions: Tensor) -> Prefill:
        width = self.reader.encoder_width
        outputs = list(encoder_outputs)
        starts: list[int] = []
        if (metadata := get_forward_context().attn_metadata) is not None and input_ids is not None:
            outputs, starts = self._in_order(outputs, metadata, input_ids, positions)
        phi, keys, values, _ = torch.cat(outputs).split([width, 1, 1, outputs[0].shape[1] - width - 2], dim=1)
        skipped = [int(output[0, width + 2]) for output in outputs]
        attending = None
        if any(skipped):
            attending = torch.ones(len(positions), 1, dtype=self._dtype, device=positions.device)
            for start, count in zip(starts, skipped, strict=False):
                attending[start : start + count] = 0
        return Prefill(phi.to(self._dtype), keys.to(self._dtype), values.to(self._dtype), attending)

    def _in_order(
        self, outputs: list[Tensor], metadata: Any, input_ids: Tensor, positions: Tensor
    ) -> tuple[list[Tensor], list[int]]:
        """Encoder outputs in the order of their prompts in the step, and each prompt's first token.

        vLLM's V1 runner encodes in the order of scheduling, where a preempted request comes before new ones.
        """
        layer = metadata[self._layer_names[0]]
        begins, lengths = layer.query_start_loc, layer.seq_lens[: len(layer.query_start_loc) - 1]
        bounds = torch.stack([begins[:-1], begins[1:]], dim=1)[lengths > 0]  # (R, 2)
        is_prompt = positions[bounds[:, 0]] == 0
        ids, tail = input_ids.tolist(), [output[0, -2:].tolist() for output in outputs]
        pairs = bounds[is_prompt].tolist()
        items = [(len(output), int(length), int(sum_)) for output, (length, sum_) in zip(outputs, tail, strict=True)]
        order = order_of([ids[start:end] for start, end in pairs], lengths[lengths > 0][is_prompt].tolist(), items)
        return [outputs[index] for index in order], [start for start, _ in pairs]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a checkpoint's weights: those that the reader adds here, the decoder's as vLLM does."""
        parameters = dict(self.named_parameters())
        added: set[str] = set()

        def decoder_weights() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in weights:
                if not is_added(name):
                    yield name, tensor
                elif name not in parameters:
                    raise ValueError(f"weights do not fit the model: {name}")
                else:
                    parameter = parameters[name]
                    getattr(parameter, "weight_loader", default_weight_loader)(parameter, tensor)
                    added.add(name)

        loaded: set[str] = super().load_weights(decoder_weights())
        return loaded | added


_reads_passages = MULTIMODAL_REGISTRY.register_processor(
    PassagesProcessor, info=PassagesInfo, dummy_inputs=DummyPassages
)


@_reads_passages
class RagxCepeLlamaForCausalLM(CepeForCausalLM, LlamaForCausalLM):
    """Around Llama, and decoders of its layout: SmolLM2 and Mistral."""


@_reads_passages
class RagxCepeQwen2ForCausalLM(CepeForCausalLM, Qwen2ForCausalLM):
    """Around Qwen2 and Qwen2.5."""


@_reads_passages
class RagxCepeQwen3ForCausalLM(CepeForCausalLM, Qwen3ForCausalLM):
    """Around Qwen3."""
