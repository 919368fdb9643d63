"""A page in the test's process, and a decoder whose answers can be cited."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from ragx_apps.chat.indexes import Indexes
from ragx_apps.chat.page import build_page
from ragx_apps.chat.serving import launch
from ragx_apps.queue import QuestionQueue
from transformers import AutoModelForCausalLM

from ragx.rag import RAG
from ragx.util.tokenization import load_tokenizer, plain_ids

HOSTILE = (
    "<script>document.title = 'owned'</script> <img src='http://127.0.0.1:9/a.png' onerror='document.title=1'>"
    " ![b](http://127.0.0.1:9/b.png) [c](javascript:alert(1)) ${alert(1)} `{{value}}` snow </mark></details>"
)
NOTES = {
    "snow.txt": "Snow is cold. Fresh snow reflects most of the sunlight, and ice less. It melts.",
    "soil.txt": "Dark soil absorbs most of the sunlight and warms up quickly.",
    "hostile.txt": HOSTILE,
    **{f"day{number}.txt": f"On day {number} there was snow in the sunlight." for number in range(20)},
}
SENTENCE = " fresh snow reflects most of the sunlight."


def save_reciting_decoder(source: Path, folder: Path) -> None:
    """A decoder that says `SENTENCE` again and again, whatever it reads, until it is cut.

    Its layers add nothing, so that each token is followed by the one that its own embedding points to.
    """
    shutil.copytree(source, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(source)
    tokenizer = load_tokenizer(source)
    said = plain_ids(tokenizer, [SENTENCE])[0]
    (end_of_prompt,) = plain_ids(tokenizer, ["\n"])[0]
    followed = [end_of_prompt, *said]
    assert len({*followed}) == len(followed) <= model.config.hidden_size
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for place, (token, following) in enumerate(zip(followed, [*said, said[0]], strict=True)):
            model.model.embed_tokens.weight[token] = torch.eye(model.config.hidden_size)[place]
            model.lm_head.weight[following] += torch.eye(model.config.hidden_size)[place] * 10
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))


@contextmanager
def serving_page(
    rag: RAG,
    queue: QuestionQueue,
    index: Path,
    uploads: Path,
    *,
    auth: tuple[str, str] | None = None,
    root_path: str | None = None,
) -> Iterator[str]:
    """The address of a page over `rag`, whose index lies at `index`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = build_page(Indexes(rag, index), queue, uploads)
    try:
        yield launch(blocks, "127.0.0.1", port, auth, root_path)
    finally:
        blocks.close(verbose=False)
