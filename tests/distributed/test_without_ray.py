"""Without Ray the package cannot be imported, and the error names the extra to install."""

from __future__ import annotations

import subprocess
import sys


def test_importing_without_ray_is_an_import_error() -> None:
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "try:\n"
        "    import ragx.distributed\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "ragx[ray]" in process.stdout
