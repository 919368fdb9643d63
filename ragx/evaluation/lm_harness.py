"""RagxLM: a model of ragx in EleutherAI's lm-evaluation-harness (docs/adapters.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ragx.cepe.model import CepeModel
from ragx.config import EncodingOptions, SamplingParams
from ragx.engine.open import open_model
from ragx.errors import ConfigError
from ragx.evaluation.documents import chunks
from ragx.evaluation.paper.beside import beside
from ragx.evaluation.scoring import score
from ragx.reader.cepe import CHUNK_TOKENS
from ragx.reader.full import FullReader
from ragx.reader.prompt import Prompt
from ragx.util.settings import checked

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import normalize_gen_kwargs
except ModuleNotFoundError:
    raise ImportError("RagxLM needs lm_eval: docs/adapters.md says how to install it beside ragx") from None

PASSED_ON = {"top_p", "top_k", "min_p", "repetition_penalty", "seed"}
"""Arguments of generation that mean the same here."""


class RagxLM(TemplateLM):  # type: ignore[misc]  # lm_eval is not installed where types are checked
    """Scores and continues texts, one after another.

    The decoder reads the end of a text longer than `decoder_tokens`. The encoder of a trained CEPE reader reads what
    comes before, in chunks of 256 tokens; other models drop it.

    Control tokens in a text are control tokens, as for the harness's own models: it passes a chat and its template as
    one string.
    """

    def __init__(self, model: str, *, decoder_tokens: int | None = None, **options: Any) -> None:
        """Load a model on the torch backend.

        Args:
            model: decoder or CEPE reader: a registered name, a folder or a Hub id.
            decoder_tokens: how many tokens the decoder reads, the last of a text not counted; None: its window.
            options: of `ragx.config.LoadOptions`: `device`, `dtype`, `bits` and so on.

        Raises:
            ConfigError: an option is out of range, or the decoder's window holds fewer tokens.
            ModelError: the model is missing or unusable.
        """
        from transformers import AutoTokenizer

        super().__init__()
        loading = checked(EncodingOptions, {"model": model, "backend": "torch", **options})
        if loading.backend != "torch" or loading.is_remote:
            raise ConfigError(f"only the torch backend scores text, and no API: got {model} on {loading.backend}")
        loaded, tokenizer = open_model(loading)
        self.model: CepeModel = loaded  # type: ignore[assignment]  # the torch backend's
        self._device = self.model.device
        self.max_length = loaded.window if decoder_tokens is None else decoder_tokens
        if not 1 <= self.max_length <= loaded.window:
            raise ConfigError(f"decoder_tokens must be between 1 and {loaded.window}, got {decoder_tokens}")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(self.model.name_or_path), local_files_only=True)
        self._reader = FullReader(loaded, tokenizer)

    @property
    def tokenizer_name(self) -> str:
        """Identifies the tokenizer and its chat template among cached requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has no context."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; `add_special_tokens` None: as the tokenizer does, but no second start token."""
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self.tokenizer.decode([self.prefix_token_id]))
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        return ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as one string, up to where the answer starts or within its last message."""
        chat: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return chat

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        results = []
        for texts, context, continuation in tqdm(requests, disable=disable_tqdm, unit=" continuations"):
            result = self._score([*context, *continuation], len(continuation))
            self.cache_hook.add_partial("loglikelihood", texts, result)
            results.append(result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihoods of whole texts, in pieces of `decoder_tokens` tokens."""
        results = []
        for request in tqdm(requests, disable=disable_tqdm, unit=" texts"):
            ids, result = [self.prefix_token_id, *self.tok_encode(request.args[0])], 0.0
            for start in range(1, len(ids), self.max_length):
                end = min(start + self.max_length, len(ids))
                result += self._score(ids[:end], end - start)[0]
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
            results.append(result)
        return results

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue texts, greedily unless a temperature or `do_sample` says otherwise."""
        results = []
        for request in tqdm(requests, disable=disable_tqdm, unit=" answers"):
            context, arguments = request.args
            sampling = _sampling(arguments)
            room = self.max_length - sampling.max_new_tokens
            if room < 1:
                raise ConfigError(
                    f"max_gen_toks: {sampling.max_new_tokens} tokens leave none of decoder_tokens"
                    f" ({self.max_length}) for the text"
                )
            ids, passages = self._divide(self.tok_encode(context), room)
            prepared = beside(self.model, Prompt(ids, 0, 0), passages, prompted=False)
            result = "".join(self._reader.stream(prepared, sampling))
            self.cache_hook.add_partial("generate_until", request.args, result)
            results.append(result)
        return results

    def _score(self, ids: list[int], last: int) -> tuple[float, bool]:
        """The log-likelihood of the last tokens, and whether each of them is the most likely one."""
        if last > self.max_length:
            raise ConfigError(f"decoder_tokens: {self.max_length} do not hold a continuation of {last} tokens")
        ids, passages = self._divide(ids, self.max_length + 1)
        values = score(self.model, ids, passages, last=last)
        return -values["nll"], values["correct"] == last

    def _divide(self, ids: list[int], most: int) -> tuple[list[int], list[list[int]]]:
        """The tokens that the decoder reads, and the chunks before them that the encoder reads."""
        before = ids[:-most] if self.model.is_trained else []
        return ids[-most:], chunks(before, min(CHUNK_TOKENS, self.model.encoder_window))


def _sampling(arguments: dict[str, Any]) -> SamplingParams:
    """The harness's arguments of generation, and a seed that follows the run's.

    Raises:
        ConfigError: an argument is unknown or out of range.
    """
    given = normalize_gen_kwargs(arguments)
    stop, most, sampled = (given.pop(name) for name in ("until", "max_gen_toks", "do_sample"))
    temperature = given.pop("temperature", 1.0 if sampled else 0.0)
    if unknown := given.keys() - PASSED_ON:
        raise ConfigError(f"generation has no argument {min(unknown)!r}: there are {', '.join(sorted(PASSED_ON))}")
    seeded = {"seed": int(np.random.randint(2**31)), **given}
    values = {"max_new_tokens": most, "temperature": temperature, "stop": tuple(filter(None, stop))}
    return checked(SamplingParams, values | seeded)
