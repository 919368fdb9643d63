"""Decoders for a machine: what fits its memory, in which format, and with which reader."""

from __future__ import annotations

import json

from ragx.models import registry
from ragx.models.recommend import Device, Recommendation, recommend, summary
from tests.helpers.command import RunCommand

GIB = 2**30


def rows(device: Device, free: int) -> dict[str, Recommendation]:
    return {row.name: row for row in recommend(device, free)}


def test_every_decoder_of_the_registry_is_listed_from_small_to_large() -> None:
    names = list(rows("cpu", 0))
    assert sorted(names) == sorted(entry.name for entry in registry.entries() if entry.kind == "decoder")
    assert (names[0], names[-1]) == ("smollm2-135m-instruct", "llama-3.1-8b-instruct")


def test_a_decoder_fits_if_its_weights_and_a_quarter_more_fit() -> None:
    needed = int(134_515_008 * 4 * 1.25)  # float32, from which the CPU backend compiles
    assert rows("cpu", needed)["smollm2-135m-instruct"].fits
    assert rows("cpu", needed)["smollm2-135m-instruct"].option == ""
    assert rows("cpu", needed - 1)["smollm2-135m-instruct"].option == "--dtype bfloat16"
    assert not rows("cpu", needed // 2 - 1)["smollm2-135m-instruct"].fits


def test_a_gpu_holds_larger_ones_in_fewer_bits() -> None:
    on_24 = rows("cuda", 24 * GIB)
    assert on_24["llama-3.1-8b-instruct"].option == ""
    on_12 = rows("cuda", 12 * GIB)
    assert (on_12["llama-3.1-8b-instruct"].option, on_12["qwen3-4b-instruct"].option) == ("--bits 8", "")
    assert rows("cuda", 6 * GIB)["qwen2.5-7b-instruct"].option == "--bits 4"
    assert not rows("cuda", 4 * GIB)["llama-3.1-8b-instruct"].fits


def test_the_trained_reader_is_named() -> None:
    readers = {name: row.reader for name, row in rows("cpu", GIB).items()}
    assert readers["smollm2-135m-instruct"] == "ceped-smollm2-135m"
    assert [name for name, reader in readers.items() if reader] == ["smollm2-135m-instruct"]


def test_one_line_sums_it_up() -> None:
    line = summary(recommend("cuda", 12 * GIB), "cuda", 12 * GIB)
    assert line.startswith("llama-3.1-8b-instruct with --bits 8 is the largest decoder for 12.0 GiB")
    assert line.endswith("trained readers that fit: ceped-smollm2-135m")
    assert summary(recommend("cpu", 0), "cpu", 0) == "no decoder of the registry fits 0.0 GiB of free memory (cpu)"


def test_the_command_prints_a_table_or_an_object(run_command: RunCommand) -> None:
    done = run_command("models", "recommend")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split() == ["decoder", "weights", "window", "needs", "fits", "reader", "licence"]
    assert "qwen2.5-1.5b-instruct" in done.out
    found = json.loads(run_command("models", "recommend", "--json").out)
    assert found["device"] in ("cpu", "cuda")
    assert found["decoders"][0]["window"] == 8192
