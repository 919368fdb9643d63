"""`python run_tiny.py DECODER DATA OUT [SETTING…]`: the tiny warm-up, for a test that starts several processes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tiny_runs import run_recipe, tiny_settings

if __name__ == "__main__":
    decoder, data, out = map(Path, sys.argv[1:4])
    settings = tiny_settings("warmup", decoder, data, "loop.steps=4", "loop.checkpoint_every=2", *sys.argv[4:])
    run_recipe("warmup", out, settings, resume=out.exists())
