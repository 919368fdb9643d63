"""Files out of wheels: fetched with the user's own pip settings, checked, and never installed."""

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
    """A folder of wheels that pip finds instead of an index, and an empty cache."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(shelf: Path, files: dict[str, bytes], **changed: str) -> WheelFile:
    """Put a wheel of `files` on the shelf and describe its member a.txt, but for what is `changed`."""
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
    described = {"package": "tiny-data", "version": "1.0", "sha256": digest, "member": "tiny_data/a.txt"}
    return WheelFile(**{**described, **changed})


def refusal(source: WheelFile) -> str:
    with pytest.raises(ModelError) as error:
        models.fetch_wheel_file(source)
    return str(error.value)


def test_a_member_file_is_fetched_once(
    shelf: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_wheel(shelf, FILES)
    path = models.fetch_wheel_file(source)
    assert (path.name, path.read_bytes()) == ("a.txt", b"first")
    assert capfd.readouterr() == ("", "downloading tiny-data==1.0 from the package index\n")
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    assert models.fetch_wheel_file(source) == path
    assert capfd.readouterr() == ("", "")


def test_a_member_folder_is_fetched_whole_and_alone(shelf: Path) -> None:
    folder = models.fetch_wheel_file(make_wheel(shelf, FILES, member="tiny_data/"))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.txt")}
    assert found == {"a.txt": b"first", "deep/b.txt": b"second"}


def test_a_cut_file_is_fetched_again(shelf: Path) -> None:
    source = make_wheel(shelf, FILES)
    models.fetch_wheel_file(source).write_bytes(b"fi")
    assert models.fetch_wheel_file(source).read_bytes() == b"first"


def test_a_wheel_with_another_checksum_is_refused(shelf: Path, stored: Stored) -> None:
    truth = make_wheel(shelf, FILES).sha256
    assert refusal(make_wheel(shelf, FILES, sha256="7" * 64)) == (
        f"tiny_data-1.0-py3-none-any.whl has a wrong checksum: SHA-256 {truth} instead of {'7' * 64}"
    )
    assert stored() == []


def test_a_member_that_is_not_there_is_one_clear_line(shelf: Path, stored: Stored) -> None:
    error = refusal(make_wheel(shelf, FILES, member="tiny_data/c.txt"))
    assert error == "tiny-data 1.0 has no tiny_data/c.txt in its wheel"
    assert stored() == []


def test_a_member_that_points_outside_is_refused(shelf: Path, stored: Stored, tmp_path: Path) -> None:
    error = refusal(make_wheel(shelf, {"tiny_data/../../../owned": b"x"}, member="tiny_data/"))
    assert error == "tiny-data 1.0 has a file that points outside its wheel: tiny_data/../../../owned"
    assert stored() == []
    assert not list(tmp_path.rglob("owned"))


def test_a_package_that_pip_cannot_find_is_one_clear_line(shelf: Path, stored: Stored) -> None:
    error = refusal(make_wheel(shelf, FILES, version="2.0"))
    assert error == "pip cannot download tiny-data==2.0: No matching distribution found for tiny-data==2.0"
    assert stored() == []


@pytest.mark.parametrize(
    ("field", "value"), [("package", "--index-url=http://x"), ("package", "a @ file:b"), ("version", "1 --pre")]
)
def test_what_is_no_package_name_or_version_never_reaches_pip(
    shelf: Path, capfd: pytest.CaptureFixture[str], field: str, value: str
) -> None:
    assert refusal(make_wheel(shelf, FILES, **{field: value})).endswith("does not name a package and a version")
    assert capfd.readouterr().err == ""


def test_a_file_named_pip_in_the_working_folder_does_not_run(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    assert models.fetch_wheel_file(make_wheel(shelf, FILES)).read_bytes() == b"first"


def test_offline_pip_is_not_started(
    shelf: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGX_OFFLINE", "1")
    assert refusal(make_wheel(shelf, FILES)) == "tiny_data/a.txt of tiny-data 1.0 must be fetched, but ragx is offline"
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_one_clear_line_and_nothing_stays(
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


def test_the_wikipedia_sample_is_the_same_on_any_interpreter(home: Path) -> None:
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
