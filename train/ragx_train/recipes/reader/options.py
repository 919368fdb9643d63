"""The settings of `ragx train reader`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ragx.errors import ConfigError
from ragx.types import CrossAttend
from ragx.util.settings import Settings
from ragx_train.data.masking import MaskingSettings
from ragx_train.data.questions import QuestionSettings
from ragx_train.settings import DocumentSettings, Layers, LoopSettings, RecipeSettings, parse_duration


class ReaderModel(Settings):
    """The decoder and the size of what is added to it; the layers are found if they are not named."""

    decoder: str
    """A Llama-family decoder: a name, a folder or a Hub id."""
    init_from: str | None = None
    """Reader to start from, a folder or a name; null: a fresh one."""
    encoder_layers: Layers = Field(default=[])
    """Decoder layers that initialise the encoder's layers; empty: the first and those with previous-token heads."""
    encoder_size: int = Field(default=7, ge=1)
    """Number of encoder layers, if they are not named."""
    cross_attention_layers: Layers = Field(default=[])
    """Decoder layers that get cross-attention; empty: those with the strongest induction heads."""
    cross_attention_size: int = Field(default=8, ge=1)
    """Number of these, if they are not named."""
    output_gain: float = Field(default=0.3, ge=0)
    """A fresh output projection is initialised with self-attention's times this."""
    frozen_encoder_layers: int = Field(default=0, ge=0)
    """Number of first encoder layers that stay frozen."""


class Mix(Settings):
    """Ratio of the streams' examples; 0: none."""

    reconstruction: int = Field(default=1, ge=0)
    """The decoder repeats what the encoder reads."""
    continuation: int = Field(default=4, ge=0)
    """The decoder continues what the encoder reads."""
    answers: int = Field(default=0, ge=0)
    """The decoder answers questions about what the encoder reads."""

    @model_validator(mode="after")
    def _not_all_are_0(self) -> Mix:
        if not self.reconstruction + self.continuation + self.answers:
            raise ValueError("reconstruction, continuation and answers cannot all be 0")
        return self


class ReaderData(Settings):
    """Texts, questions, and how long examples are."""

    folder: str | None = None
    """Folder that relative paths of `texts` and `questions` start from instead of their own `folder`."""
    texts: DocumentSettings | None = None
    """Null: the texts in `folder`, or those of the index."""
    questions: QuestionSettings | None = None
    """Questions that the decoder answers in its own words first; null: those in `folder`, if there are any."""
    index: str | None = None
    """Folder of an index that the decoder asks its own questions about."""
    write: float = Field(default=0.2, ge=0, lt=1)
    """Share of the time limit in which the decoder writes answers and, with an index, questions."""
    own_answers: bool = True
    """False: the answers of the questions' files are trained on as they are."""
    chunk: int = Field(default=256, ge=1)
    """Tokens in a passage of text to continue."""
    encoder_tokens: int = Field(default=2048, ge=1)
    """Most tokens of text to continue."""
    decoder_tokens: int = Field(default=256, ge=2)
    """Tokens of its continuation."""
    reconstruction_chunk: int = Field(default=64, ge=2)
    """Tokens in a passage of text to reconstruct."""
    reconstruction_tokens: int = Field(default=512, ge=2)
    """Most tokens of text to reconstruct."""

    def known_texts(self) -> DocumentSettings:
        """The texts of a run that has begun.

        Raises:
            ConfigError: there are none.
        """
        if self.texts is None:
            raise ConfigError("there is no text to train on: give --data, a folder of texts, or --index")
        return self.texts

    @model_validator(mode="after")
    def _texts_have_a_chunk(self) -> ReaderData:
        if self.chunk > self.encoder_tokens or self.reconstruction_chunk > self.reconstruction_tokens:
            raise ValueError("a chunk cannot be longer than the text it is taken from")
        return self


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


class Stage(Settings):
    """A mixture of the streams, for a share of the time."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    share: float = Field(gt=0)
    """Share of the training time, or of `loop.steps`, relative to the other stages."""
    mix: Mix
    curriculum: bool = False
    """Whether texts begin with one chunk and become longer, 2, 4, 8 chunks and so on."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak; null: `loop.learning_rate`."""


STAGES = [
    Stage(name="copying", share=0.15, mix=Mix(reconstruction=4, continuation=1), curriculum=True),
    Stage(name="text", share=0.25, mix=Mix(reconstruction=1, continuation=4), curriculum=True),
    Stage(name="questions", share=0.6, mix=Mix(reconstruction=1, continuation=3, answers=6)),
]
QUESTIONS: dict[str, Any] = {
    "questions": 24,
    "passages": (1, 61),
    "prompt_passages": (0, 5),
    "max_answer_tokens": 32,
}
"""How questions are used that have no settings: those found in a folder, and those about an index."""


class ReaderSettings(Settings):
    """`ragx train reader`."""

    model: ReaderModel
    data: ReaderData = ReaderData()
    stages: list[Stage] = Field(default=STAGES, min_length=1)
    time_limit: Annotated[float | None, BeforeValidator(_seconds)] = None
    """Seconds, or a duration such as 3h, for all stages over all resumed runs; null: `loop.steps` in all."""
    loop: LoopSettings = LoopSettings(
        steps=1000, batch_size=4, micro_batch=1, learning_rate=5e-4, betas=(0.9, 0.95), validation_examples=6
    )
    """If time is limited, steps, and when to validate and to save, follow from the time that a step takes."""
    masking: MaskingSettings = MaskingSettings()
    """Of text to continue."""
    attention: float = Field(default=0.3, ge=0)
    """Coefficient of the loss on attention outside the gold passages; see attention.py."""
    prompted_gain: float = Field(default=0.5, ge=0)
    """Of the finished reader: factor of cross-attention if passages are also in the prompt."""
    within: float | None = Field(default=None, ge=0)
    """Of the finished reader: it reads only passages that a reranker scores at most this much below the best one; null:
    all."""
    cross_attend: CrossAttend = "question"
    """Prompt tokens that attend to passages, in training and in use."""

    @model_validator(mode="after")
    def _stages_have_names(self) -> ReaderSettings:
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages: two have the same name")
        return self


class StageSettings(RecipeSettings):
    """The settings of a stage's run, which are fixed when it begins."""

    data: ReaderData
    stage: Stage
    masking: MaskingSettings
    attention: float
    cross_attend: CrossAttend
