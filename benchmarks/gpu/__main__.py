"""`python -m benchmarks.gpu pack|run|join`; see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import gpu

TIMES = {"checks": 120, "train": 360, "bench": 120}
READER_PART = 15 << 20


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=gpu.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write what the other machine needs")
    packing.add_argument("--config", type=Path, default=Path("train/configs/reader/gpu.yaml"))
    packing.add_argument("--out", type=Path, default=Path(".cache/gpu"))
    packing.add_argument("--tokens", type=int, default=7_000_000, help="at most, from each source of texts")
    packing.add_argument("--answers", type=Path, help="the decoder's own answers, in place of the questions' files")
    packing.add_argument("--wheels", type=Path, help="folder of wheels to take along")
    packing.add_argument("--part-size", type=float, default=60, help="maximum MB of a part")
    running = commands.add_parser("run", help="test, train and measure on the machine with the GPU")
    running.add_argument("pack", type=Path, nargs="+", help="files of the pack, or their folders")
    running.add_argument("--work", type=Path, default=Path("/tmp/ragx-gpu"))  # noqa: S108
    running.add_argument("--out", type=Path, required=True)
    for part, seconds in TIMES.items():
        running.add_argument(f"--{part}", type=int, default=seconds, metavar="SECONDS", help="0: not at all")
    joining = commands.add_parser("join", help="put the reader that came back together")
    joining.add_argument("files", type=Path, nargs="+", help="reader.* , or their folder")
    joining.add_argument("--out", type=Path, required=True, help="folder for `ragx ask --model`")
    options, overrides = parser.parse_known_args()
    if wrong := [each for each in overrides if options.command == "join" or "=" not in each]:
        parser.error(f"{wrong[0]} is neither an option nor a setting such as --loop.micro_batch=16")
    if options.command == "pack":
        _pack(options, overrides)
    elif options.command == "join":
        from benchmarks.gpu.parts import join

        join(options.files, "reader", options.out)
    else:
        from benchmarks.gpu.run import run

        times = {part: getattr(options, part) for part in TIMES}
        sys.exit(run(options.pack, options.work, options.out, times, overrides))


def _pack(options: argparse.Namespace, overrides: list[str]) -> None:
    from ragx_train.recipes.reader import ReaderSettings

    from benchmarks.gpu.pack import pack
    from ragx.util.settings import load_settings

    settings = load_settings(ReaderSettings, options.config, overrides)
    wheels = sorted(options.wheels.glob("*.whl")) if options.wheels else []
    size = int(options.part_size * 1e6)
    for file in pack(settings, options.out, tokens=options.tokens, answers=options.answers, wheels=wheels, size=size):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
