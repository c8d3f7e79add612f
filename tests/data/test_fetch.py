"""Fetching named models: from wheels in a directory that stands in for PyPI, and from a made-up hub."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import processes
import pytest

from finetooth.config import named_models as table
from finetooth.config.named_models import NamedModel, Shape, Wheels, named_models
from finetooth.data import fetch, hub
from finetooth.data.cache import CACHE
from finetooth.errors import ModelError

PARTS = (b"GGUF first half, ", b"second half")
WHOLE = b"".join(PARTS)
TOY = NamedModel(
    name="toy-1m", parameters=1, shape=Shape(1, 8, 32, 100, True), context=8,
    languages="English", kind="base", licence="MIT", duties="keep it",
    good_for="tests", hub="org/toy",
    pypi=Wheels(
        packages=("toy-part1==1.0", "toy-part2==1.0"), parts=("toy_part1/toy.part0", "toy_part2/toy.part1"),
        file="toy.gguf", sha256=hashlib.sha256(WHOLE).hexdigest(), bytes=len(WHOLE),
    ),
)  # fmt: skip


def silent(line: str) -> None:
    pass


def write_wheel(folder: Path, number: int, content: bytes) -> Path:
    """A wheel as pip takes it, with a licence and code that must never run."""
    folder.mkdir(exist_ok=True)
    name = f"toy_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('code of a package ran')")
        wheel.writestr(f"{name}/toy.part{number - 1}", content)
        wheel.writestr(f"{name}/NOTICE.md", "keep this")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: toy-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheels, where pip looks; the table has one model more; the caches are empty."""
    folder = tmp_path / "shelf"
    for number, part in enumerate(PARTS, 1):
        write_wheel(folder, number, part)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(table.named_models(), TOY.name, TOY)
    return folder


@pytest.fixture
def without_pip(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `shelf`; what pip would do is a copy, since starting it takes a second."""

    def copied(model: NamedModel, wheels: Wheels, folder: Path, bars: bool) -> None:
        for wheel in shelf.iterdir():
            if not (folder / wheel.name).exists():
                shutil.copyfile(wheel, folder / wheel.name)

    monkeypatch.setattr(fetch, "_pip_download", copied)
    return shelf


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock"))


def test_a_model_comes_with_pip_and_is_not_fetched_twice(shelf: Path, tmp_path: Path) -> None:
    assert fetch.local(TOY) is None
    with pytest.raises(
        ModelError, match=r"toy-1m is not on this machine yet \(.*MIT\).*finetooth models get toy-1m$"
    ):
        hub.model_directory("toy-1m")
    directory = fetch.fetch(TOY, silent)
    assert (directory / "toy.gguf").read_bytes() == WHOLE
    assert (directory / "NOTICE.md").read_text() == "keep this"
    assert left_in(tmp_path / "cache") == ["toy-1m"]
    shutil.rmtree(shelf)
    assert fetch.fetch(TOY, silent) == directory == fetch.local(TOY)


def test_offline_both_ways_are_told(shelf: Path) -> None:
    (shelf / "toy_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError) as told:
        fetch.fetch(TOY, silent)
    message = str(told.value)
    assert "toy-1m could not be fetched (No matching distribution found for toy-part2==1.0)" in message
    assert (
        "`pip download --no-deps --dest DIR toy-part1==1.0 toy-part2==1.0`, then here `PIP_NO_INDEX=1"
        in message
    )
    assert "`hf download org/toy --local-dir DIR`, then here `model: DIR`" in message and "\n" not in message
    assert fetch.local(TOY) is None


def test_a_file_with_another_checksum_is_not_used(without_pip: Path, tmp_path: Path) -> None:
    write_wheel(without_pip, 2, b"something else")
    with pytest.raises(ModelError, match=r"has the sha256 [0-9a-f]{64}, expected [0-9a-f]{64}.*deleted"):
        fetch.fetch(TOY, silent)
    assert fetch.local(TOY) is None and not left_in(tmp_path / "cache")
    write_wheel(without_pip, 2, PARTS[1])
    assert (fetch.fetch(TOY, silent) / "toy.gguf").read_bytes() == WHOLE


@pytest.mark.parametrize("cut", [30, -60])
def test_a_wheel_that_was_cut_off_is_fetched_again(without_pip: Path, cut: int) -> None:
    whole = (without_pip / "toy_part1-1.0-py3-none-any.whl").read_bytes()
    (without_pip / "toy_part1-1.0-py3-none-any.whl").write_bytes(whole[:cut])
    with pytest.raises(ModelError, match="a downloaded wheel is damaged"):
        fetch.fetch(TOY, silent)
    assert fetch.local(TOY) is None
    write_wheel(without_pip, 1, PARTS[0])
    assert fetch.local(TOY) is None and fetch.fetch(TOY, silent) == fetch.local(TOY)


def test_a_full_disk_is_told_before_and_during(
    without_pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
        with pytest.raises(ModelError, match=r"The disk of .* is full: .*FINETOOTH_CACHE"):
            fetch.fetch(TOY, silent)

    def full(*given: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_unpack", full)
        with pytest.raises(ModelError, match=r"The disk of .* is full"):
            fetch.fetch(TOY, silent)
    assert fetch.local(TOY) is None
    assert fetch.fetch(TOY, silent) == fetch.local(TOY)


def test_what_a_killed_process_left_is_never_taken_for_a_model(without_pip: Path, tmp_path: Path) -> None:
    """Killed after the file was written, before it got its name: the latest moment."""
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom finetooth.data import fetch\n"
        "import test_fetch\n"
        "Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch.fetch(test_fetch.TOY, test_fetch.silent)"
    )
    assert processes.python(tmp_path, code)[0] == -9
    assert left_in(tmp_path / "cache") == [".toy-1m.partial"]
    assert fetch.local(TOY) is None
    assert (fetch.fetch(TOY, silent) / "toy.gguf").read_bytes() == WHOLE
    assert left_in(tmp_path / "cache") == ["toy-1m"]


def test_ctrl_c_keeps_what_was_downloaded(
    without_pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_unpack", stopped)
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch(TOY, silent)
    assert fetch.local(TOY) is None
    wheels = tmp_path / "cache" / "models" / ".toy-1m.partial" / "wheels"
    assert len(list(wheels.iterdir())) == 2
    shutil.rmtree(without_pip)
    without_pip.mkdir()
    assert fetch.fetch(TOY, silent) == fetch.local(TOY)


def test_a_second_process_waits_and_finds_it_there(
    without_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack, started, over = fetch._unpack, threading.Event(), threading.Event()
    calls: list[int] = []

    def slow(*given: Any) -> str:
        calls.append(1)
        started.set()
        over.wait(30)
        return unpack(*given)

    monkeypatch.setattr(fetch, "_unpack", slow)
    first = threading.Thread(target=fetch.fetch, args=(TOY, silent))
    first.start()
    started.wait(30)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        over.set()

    directory = fetch.fetch(TOY, say)
    first.join()
    assert lines == ["another process is fetching toy-1m; waiting for it"]
    assert calls == [1] and (directory / "toy.gguf").read_bytes() == WHOLE


def test_a_deleted_file_is_not_here(without_pip: Path) -> None:
    (fetch.fetch(TOY, silent) / "toy.gguf").unlink()
    assert fetch.local(TOY) is None
    assert (fetch.fetch(TOY, silent) / "toy.gguf").is_file()


# The hub ----------------------------------------------------------------------------------------------------


def fake_hub(place: Path, commit: str = "abc") -> Path:
    snapshot = place / "models--org--toy" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"")
    return snapshot


def test_the_hub_gives_the_original_weights_and_the_commit_is_kept(
    without_pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch.fetch(TOY, silent)
    snapshot = fake_hub(tmp_path / "elsewhere")
    monkeypatch.setattr(fetch.hub_cache, "download", lambda *given: snapshot)
    assert fetch.fetch(TOY, silent, from_hub=True) == snapshot == hub.model_directory("toy-1m")
    record = fetch.read_object(tmp_path / "cache" / "models" / "toy-1m" / "source.json")
    assert record["commit"] == "abc" and record["from"] == "hub"
    shutil.rmtree(snapshot)
    assert fetch.local(TOY) is None


def test_a_model_in_hugging_faces_cache_is_here(shelf: Path, tmp_path: Path) -> None:
    snapshot = fake_hub(tmp_path / "hub")
    (tmp_path / "hub" / "models--org--toy" / "refs").mkdir()
    (tmp_path / "hub" / "models--org--toy" / "refs" / "main").write_text("abc")
    assert fetch.local(TOY) == snapshot


def test_a_gated_model_says_what_to_do(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gated(*given: Any) -> Path:
        raise OSError("401 Client Error: access to this gated repo is restricted")

    monkeypatch.setattr(fetch.hub_cache, "download", gated)
    with pytest.raises(
        ModelError, match=r"gated repo is restricted; accept its licence on the hub and log in"
    ):
        fetch.fetch(TOY._replace(pypi=None), silent)


def test_the_table_is_whole() -> None:
    models = named_models()
    asked = "milktooth smollm2-135m smollm2-360m smollm2-1.7b qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b "
    asked += "gemma3-270m gemma3-1b gemma3-4b llama3.2-1b llama3.2-3b llama2-7b mistral-7b gpt-neo-1.3b "
    asked += "phi4-mini olmo2-1b"
    assert set(asked.split()) <= set(models)
    for model in models.values():
        assert model.embedded != bool(model.hub) and model.kind in ("chat", "base")
        assert model.parameters > 0 and model.context > 0
        assert model.languages and model.licence and model.duties and model.good_for
        for wheels in filter(None, [model.pypi]):
            assert len(wheels.sha256) == 64 and all("==" in package for package in wheels.packages)
    assert fetch.local(models["milktooth"]) == hub.model_directory("milktooth")
    assert os.environ.get("HF_HUB_OFFLINE") == "1"
