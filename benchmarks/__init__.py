"""The benchmarks of docs/benchmarks.md: `python -m benchmarks [NAME …]`, or `make bench` for all."""

import os

os.environ["RAGX_CONFIG"] = os.devnull  # figures do not depend on the user's own defaults
