"""`python run_tiny.py RECIPE DECODER DATA OUT [SETTING…]`: a tiny run, for a test that starts several processes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tiny_runs import run_recipe, tiny_settings

if __name__ == "__main__":
    recipe, (decoder, data, out) = sys.argv[1], map(Path, sys.argv[2:5])
    run_recipe(recipe, out, tiny_settings(recipe, decoder, data, *sys.argv[5:]), resume=out.exists())
