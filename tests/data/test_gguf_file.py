"""Headers of GGUF files: what is in them, and files that are damaged, hostile, or something else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from finetooth.data.gguf_cache import find_in
from finetooth.data.gguf_file import is_gguf, read_header
from finetooth.errors import ModelError


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def entry(name: str, value: int | str) -> bytes:
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    return text(name) + struct.pack("<II", 4, value)


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


BLOCKS = entry("llama.block_count", 2)
KEYS = [entry("general.architecture", "llama"), BLOCKS]
TENSORS = [tensor("blk.0.attn_q.weight", (32, 4), 3), tensor("output_norm.weight", (4,), 0, 96)]


def file(
    keys: list[bytes] = KEYS,
    tensors: list[bytes] = TENSORS,
    count: int | None = None,
    start: bytes = b"GGUF" + struct.pack("<I", 3),
) -> bytes:
    body = start + struct.pack("<QQ", len(tensors), len(keys) if count is None else count)
    body += b"".join(keys) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + bytes(112)


def write(folder: Path, content: bytes, name: str = "m.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_what_a_header_holds(tmp_path: Path) -> None:
    array = text("a.list") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("yz")
    header = read_header(write(tmp_path, file([*KEYS, array])))
    assert header.metadata == {"general.architecture": "llama", "llama.block_count": 2, "a.list": 2}
    assert [one.shape for one in header.tensors] == [(32, 4), (4,)]
    assert header.quantisation == "Q4_1" and header.parameters == 132 and header.architecture == "llama"


HUGE = struct.pack("<Q", 1 << 60)
BAD = {
    "a text longer than the file": ([text("a") + struct.pack("<I", 8) + HUGE], TENSORS, "a text of"),
    "an endless array": ([text("a") + struct.pack("<II", 9, 4) + HUGE], TENSORS, "entries in"),
    "an endless list of texts": ([text("a") + struct.pack("<II", 9, 8) + HUGE], TENSORS, "entries in"),
    "an array of arrays": ([text("a") + struct.pack("<IIQ", 9, 9, 1)], TENSORS, "array of the type 9"),
    "an endless token": (
        [text("a") + struct.pack("<IIQ", 9, 8, 1) + text(b"x" * 5000)], TENSORS, "a token of 5,000"
    ),
    "an unknown type": ([text("a") + struct.pack("<I", 99)], TENSORS, "unknown type 99"),
    "a key twice": ([*KEYS, BLOCKS], TENSORS, "there twice"),
    "a name that is no text": ([text(b"\xff\xfe") + struct.pack("<II", 4, 1)], TENSORS, "ends too early"),
    "no tensors": (KEYS, [], "no tensors"),
    "a tensor larger than the file": (KEYS, [tensor("t", (1 << 40, 1 << 20))], "would end at byte"),
    "an unknown tensor type": (KEYS, [tensor("t", (32,), 77)], "unknown type 77"),
    "half a block": (KEYS, [tensor("t", (33,), 3)], "which Q4_1 cannot have"),
    "no axes": (KEYS, [tensor("t", ())], "has 0 axes"),
    "a thousand axes": (KEYS, [text("t") + struct.pack("<I", 1000)], "has 1000 axes"),
    "no alignment": ([*KEYS, entry("general.alignment", 3)], TENSORS, "alignment is 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_header_that_lies_is_told_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    keys, tensors, reason = BAD[name]
    with pytest.raises(ModelError, match=rf"damaged or cut off \(.*{reason}.*Download it again"):
        read_header(write(tmp_path, file(keys, tensors)))


def test_counts_of_entries_that_the_file_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="entries in"):
        read_header(write(tmp_path, file(count=1 << 62)))


@pytest.mark.parametrize("cut", [6, 20, 60, 100, -40])
def test_a_file_that_was_cut_off(tmp_path: Path, cut: int) -> None:
    with pytest.raises(ModelError, match="damaged or cut off"):
        read_header(write(tmp_path, file()[:cut]))


@pytest.mark.parametrize("layers", [0, 10_001, 1 << 31])
def test_layers_that_no_model_has(tmp_path: Path, layers: int) -> None:
    keys = [KEYS[0], entry("llama.block_count", layers)]
    with pytest.raises(ModelError, match=f"not a language model: it has {layers} layers"):
        read_header(write(tmp_path, file(keys)))


def test_other_files_and_versions(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_header(write(tmp_path, b"PK\x03\x04 a wheel"))
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_header(write(tmp_path, b""))
    for version in (1, 3 << 24):  # the second: big endian
        with pytest.raises(ModelError, match="expected 2 or 3"):
            read_header(write(tmp_path, file(start=b"GGUF" + struct.pack("<I", version))))
    assert is_gguf(write(tmp_path, file(), "model.bin")) and not is_gguf(write(tmp_path, b"PK", "x.bin"))


def test_one_part_of_several(tmp_path: Path) -> None:
    part = write(tmp_path, file(), "m-00001-of-00003.gguf")
    for path in (part, write(tmp_path, file([*KEYS, entry("split.count", 3)]), "renamed.gguf")):
        with pytest.raises(ModelError, match="llama-gguf-split --merge"):
            read_header(path)
    (tmp_path / "renamed.gguf").unlink()
    write(tmp_path, file(), "m-00002-of-00003.gguf")
    with pytest.raises(ModelError, match="llama-gguf-split --merge"):
        find_in(tmp_path)


def test_a_directory_with_several_models(tmp_path: Path) -> None:
    assert find_in(tmp_path) is None
    first = write(tmp_path, file(), "a.gguf")
    assert find_in(tmp_path) == first
    write(tmp_path, file(), "b.gguf")
    with pytest.raises(ModelError, match=r"2 GGUF files \(a\.gguf, b\.gguf\)\. Name one: model: .*a\.gguf"):
        find_in(tmp_path)
