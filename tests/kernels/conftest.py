"""Helpers beside the tests, and Triton's interpreter where there is no GPU."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

if not torch.cuda.is_available():  # read when the kernels are defined, so before any test imports them
    os.environ["TRITON_INTERPRET"] = "1"
