"""Ask for known vulnerabilities of the pinned packages: `python .ci/audit.py [PINS] [options of pip-audit]`.

A vulnerability is an exit code of 1. That the service cannot be reached, or does not know packages, is one line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
UNREACHABLE = ("connect", "timed out", "resolve", "proxy", "unreachable", "httperror", "serviceerror")


def main() -> int:
    pins, *options = sys.argv[1:] or [str(PINS)]
    command = [sys.executable, "-m", "pip_audit", "--requirement", pins, "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        print("packages are not audited: the vulnerability service takes too long", file=sys.stderr)
        return 0
    if not done.stdout.strip():
        if any(word in done.stderr.lower() for word in UNREACHABLE):
            print("packages are not audited: the vulnerability service cannot be reached", file=sys.stderr)
            return 0
        print(done.stderr, file=sys.stderr)
        return 1
    packages = json.loads(done.stdout)["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        few = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        print(f"{len(unknown)} of {len(packages)} packages are not audited: the service has no {few}", file=sys.stderr)
    found = [(package, each) for package in packages for each in package.get("vulns", [])]
    for package, each in found:
        mended = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {each['id']}, mended in {mended}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
