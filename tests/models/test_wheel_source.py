"""Files from wheels: downloaded with the user's pip settings, checked, and never installed."""

from __future__ import annotations

import bz2
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ragx import models
from ragx.config import WheelFile
from ragx.errors import ModelError

if TYPE_CHECKING:
    from conftest import Outcome

    Stored = Callable[[], list[str]]

FILES = {"tiny_data/a.txt": b"first", "tiny_data/deep/b.txt": b"second", "tiny_data.txt": b"beside"}


@pytest.fixture
def shelf(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip uses instead of an index, and an empty cache."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(shelf: Path, files: dict[str, bytes], **changes: str) -> WheelFile:
    """Put a wheel of `files` on the shelf and return its member a.txt, with `changes` to the fields."""
    wheel = shelf / "tiny_data-1.0-py3-none-any.whl"
    metadata = {
        "tiny_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n",
        "tiny_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_data-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in {**files, **metadata}.items():
            archive.writestr(name, data)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fields = {"package": "tiny-data", "version": "1.0", "sha256": digest, "member": "tiny_data/a.txt"}
    return WheelFile(**{**fields, **changes})


def refusal(source: WheelFile) -> str:
    with pytest.raises(ModelError) as error:
        models.fetch_wheel_file(source)
    return str(error.value)


def test_a_member_file_is_downloaded_once(
    shelf: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_wheel(shelf, FILES)
    path = models.fetch_wheel_file(source)
    assert (path.name, path.read_bytes()) == ("a.txt", b"first")
    output, errors = capfd.readouterr()
    assert output == ""
    assert "downloading tiny-data==1.0" in errors
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    assert models.fetch_wheel_file(source) == path
    assert capfd.readouterr() == ("", "")


def test_a_member_folder_is_extracted_without_other_files(shelf: Path) -> None:
    folder = models.fetch_wheel_file(make_wheel(shelf, FILES, member="tiny_data/"))
    extracted = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.txt")}
    assert extracted == {"a.txt": b"first", "deep/b.txt": b"second"}


def test_a_truncated_file_is_downloaded_again(shelf: Path) -> None:
    source = make_wheel(shelf, FILES)
    models.fetch_wheel_file(source).write_bytes(b"fi")
    assert models.fetch_wheel_file(source).read_bytes() == b"first"


def test_a_wheel_with_a_wrong_checksum_is_refused(shelf: Path, stored: Stored) -> None:
    actual = make_wheel(shelf, FILES).sha256
    error = refusal(make_wheel(shelf, FILES, sha256="7" * 64))
    assert "wrong checksum" in error
    assert actual in error
    assert stored() == []


def test_a_missing_member_is_reported(shelf: Path, stored: Stored) -> None:
    assert "has no tiny_data/c.txt" in refusal(make_wheel(shelf, FILES, member="tiny_data/c.txt"))
    assert stored() == []


def test_a_member_outside_the_wheel_is_refused(shelf: Path, stored: Stored, tmp_path: Path) -> None:
    error = refusal(make_wheel(shelf, {"tiny_data/../../../owned": b"x"}, member="tiny_data/"))
    assert "unsafe path" in error
    assert stored() == []
    assert not list(tmp_path.rglob("owned"))


def test_a_package_unknown_to_pip_is_reported(shelf: Path, stored: Stored) -> None:
    assert "cannot download tiny-data==2.0" in refusal(make_wheel(shelf, FILES, version="2.0"))
    assert stored() == []


@pytest.mark.parametrize(
    ("field", "value"), [("package", "--index-url=http://x"), ("package", "a @ file:b"), ("version", "1 --pre")]
)
def test_invalid_packages_and_versions_are_not_passed_to_pip(
    shelf: Path, capfd: pytest.CaptureFixture[str], field: str, value: str
) -> None:
    assert "not a package" in refusal(make_wheel(shelf, FILES, **{field: value}))
    assert capfd.readouterr().err == ""


def test_a_pip_module_in_the_working_folder_is_not_run(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    assert models.fetch_wheel_file(make_wheel(shelf, FILES)).read_bytes() == b"first"


def test_offline_pip_is_not_started(
    shelf: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    assert "ragx is offline" in refusal(make_wheel(shelf, FILES))
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_reported_and_nothing_stays(
    start: Callable[..., Any], finished: Callable[..., Outcome], shelf: Path, stored: Stored
) -> None:
    import resource

    source = make_wheel(shelf, {"tiny_data/a.txt": b"x" * 100_000}).model_dump()
    limit = (50_000, 50_000)
    process = start("fetch_wheel_file", source, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    error = str(finished(process).error)
    assert "File too large" in error
    assert "\n" not in error
    assert stored() == []


def test_the_wikipedia_sample_is_available_on_any_interpreter(home: Path) -> None:
    path = models.fetch_wheel_file(
        WheelFile(
            package="gensim",
            version="4.4.0",
            sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
            member="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            python="3.11",
            platform="manylinux_2_28_x86_64",
        )
    )
    with bz2.open(path) as dump:
        assert dump.read(10) == b"<mediawiki"
