"""A tiny run, for tests that start several processes.

python -m tests.helpers.run_tiny RECIPE DECODER DATA OUT [SETTING…]
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.helpers.tiny_runs import run_recipe, tiny_settings

if __name__ == "__main__":
    recipe, (decoder, data, out) = sys.argv[1], map(Path, sys.argv[2:5])
    run_recipe(recipe, out, tiny_settings(recipe, decoder, data, *sys.argv[5:]), resume=out.exists())
