"""vLLM's multimodal processor: the passages of a request are one item of the modality `passages`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ModalityDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseProcessingInfo,
    EncDecMultiModalProcessor,
    PromptReplacement,
)

from ragx.util.tokenization import load_tokenizer
from ragx_vllm.passages import ReaderSettings, context_rows, read_passages

MODALITY = "passages"
PLACEHOLDER = 0
"""Token that vLLM counts in the encoder's prompt: one for each row of Φ. It is never read."""
DUMMY_TOKENS = 256
"""Tokens of a passage with which vLLM measures the encoder's memory."""


class PassageItem(ModalityDataItems):
    """The passages of one request, as `read_passages` gives them."""

    def __init__(self, passages: dict[str, Tensor]) -> None:
        super().__init__([passages], MODALITY)

    def get_count(self) -> int:
        return len(self.data)

    def get(self, index: int) -> dict[str, Tensor]:
        passages: dict[str, Tensor] = self.data[index]
        return passages

    def get_processor_data(self) -> Mapping[str, object]:
        return {}

    def get_passthrough_data(self) -> Mapping[str, object]:
        return {name: [tensor] for name, tensor in self.get(0).items()}


class PassageParser(MultiModalDataParser):
    """Reads `multi_modal_data={"passages": ...}`."""

    def __init__(self, parse: Callable[[object], PassageItem]) -> None:
        super().__init__()
        self._parse = parse

    def _get_subparsers(self) -> Mapping[str, Callable[[object], PassageItem]]:
        return {MODALITY: self._parse}


class PassagesInfo(BaseProcessingInfo):
    """What vLLM asks of a reader before it sees passages."""

    @cached_property
    def reader(self) -> ReaderSettings:
        """The reader's settings."""
        return ReaderSettings.of(self.get_hf_config())

    @cached_property
    def _tokenize(self) -> Callable[[Sequence[str]], list[list[int]]]:
        return load_tokenizer(Path(self.ctx.model_config.tokenizer)).plain_ids

    def get_data_parser(self) -> PassageParser:
        return PassageParser(
            lambda data: PassageItem(read_passages(data, self.reader, lambda texts: self._tokenize(texts)))
        )

    @property
    def skip_prompt_length_check(self) -> bool:
        """True, because `read_passages` checks lengths, and passages take no room in the prompt."""
        return True

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {MODALITY: 1}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        return {MODALITY: self.reader.max_tokens}


class DummyPassages(BaseDummyInputsBuilder):
    """The most passages that a request can have, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return ""

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, object]
    ) -> dict[str, Any]:
        size = min(DUMMY_TOKENS, self.info.reader.encoder_window)
        whole, rest = divmod(self.info.reader.max_tokens, size)
        ids = [[PLACEHOLDER] * length for length in [size] * whole + [rest]]
        return {MODALITY: {"token_ids": ids, "question_start": 0}} if mm_counts.get(MODALITY) else {}


class PassagesProcessor(EncDecMultiModalProcessor):
    """Gives the passages' tensors to the model, and their number of rows to the scheduler."""

    skip_decoder_start_token = True
    """The prompt is the decoder's as it is."""

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Add the prompt to the item, by which the model finds the item's place in the batch."""
        for index in range(len(inputs.mm_data_items.get(MODALITY, ()))):
            inputs.mm_data_items[MODALITY].get(index)["prompt"] = torch.tensor(inputs.prompt, dtype=torch.long)
        return super().apply(inputs, timing_ctx)

    def create_encoder_prompt(self, prompt: list[int], mm_items: object) -> list[int]:
        """A prompt that the replacement below makes as long as Φ."""
        return [PLACEHOLDER]

    def _get_mm_fields_config(
        self, hf_inputs: Mapping[str, object], hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {name: MultiModalFieldConfig.batched(MODALITY) for name in hf_inputs}

    def _get_prompt_updates(
        self, mm_items: Mapping[str, Any], hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: object
    ) -> Sequence[PromptReplacement]:
        def replacement(index: int) -> list[int]:
            return [PLACEHOLDER] * context_rows(mm_items[MODALITY].get(index))

        return [PromptReplacement(modality=MODALITY, target=[PLACEHOLDER], replacement=replacement)]
