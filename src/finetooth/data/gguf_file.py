"""The header of a GGUF file: its metadata and where its tensors lie, checked against the size of the file.

A file may come from anybody and may be cut off. The libraries that read GGUF believe what a header claims;
here every count and length is compared with the bytes that there are, before memory is taken. No torch.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from finetooth.errors import ModelError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
# Type of a tensor -> name, values in a block, bytes of a block.
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")
LONGEST_TOKEN = 4096  # bytes; rebuilding the merges of a vocabulary takes their square
MOST_LAYERS = 10_000
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class Tensor(NamedTuple):
    """shape: as the file has it, the fastest axis first. kind: F32, Q4_1 ..."""

    name: str
    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Header:
    """metadata: key -> value; an array is the number of its elements. tensors: in the file's order."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """llama, gemma3 ..."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """The number of values of all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """The type in which most values of the layers' matrices are stored: Q4_1, F16 ..."""
        values: Counter[str] = Counter()
        for tensor in self.tensors:
            if len(tensor.shape) > 1 and tensor.name.startswith("blk."):
                values[tensor.kind] += math.prod(tensor.shape)
        return values.most_common(1)[0][0] if values else self.tensors[0].kind


def is_gguf(path: Path) -> bool:
    """Whether a file is named or begins like a GGUF file."""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """The header of a GGUF file. Raises ModelError for another, a damaged, or one of several files."""
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ModelError(f"{path}: not a GGUF file (it does not begin with GGUF). Download it again.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                header = _Reader(data).header()
            except (_DamagedError, struct.error, UnicodeDecodeError, OverflowError) as error:
                reason = str(error) if isinstance(error, _DamagedError) else "its header ends too early"
                raise ModelError(
                    f"{path}: the GGUF file is damaged or cut off ({reason}). Download it again."
                ) from None
    parts = header.metadata.get("split.count", 1)
    if SHARD.search(path.name) or (isinstance(parts, int) and parts > 1):
        raise ModelError(
            f"{path}: one part of a GGUF model in several files. Join them first with llama.cpp: "
            "llama-gguf-split --merge FIRST-PART OUT.gguf"
        )
    layers = header.metadata.get(f"{header.architecture}.block_count")
    if not isinstance(layers, int) or not 1 <= layers <= MOST_LAYERS:
        raise ModelError(
            f"{path}: not a language model: it has {layers} layers, expected 1 to {MOST_LAYERS:,}."
        )
    return header


class _DamagedError(Exception):
    """The header does not fit the file."""


class _Reader:
    """Reads a header from the start; every length is checked against what is left of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 4

    def header(self) -> Header:
        version = self.number("<I")
        if version not in (2, 3):
            raise _DamagedError(f"version {version}; expected 2 or 3, little endian")
        tensors, keys = self.count(24), self.count(12)
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = self.text()
            if name in metadata:
                raise _DamagedError(f"{name[:60]!r} is there twice")
            metadata[name] = self.value(self.number("<I"))
        entries = [self.tensor() for _ in range(tensors)]
        if not entries:
            raise _DamagedError("it has no tensors")
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise _DamagedError(f"its alignment is {alignment}")
        start = -(-self.at // alignment) * alignment
        for tensor, size, offset in entries:
            if start + offset + size > len(self.data):
                raise _DamagedError(
                    f"{tensor.name[:60]} would end at byte {start + offset + size:,} of {len(self.data):,}"
                )
        return Header(metadata, tuple(tensor for tensor, _, _ in entries))

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self, least: int) -> int:
        """A number of entries of at least so many bytes each."""
        value: int = self.number("<Q")
        if value * least > len(self.data) - self.at:
            raise _DamagedError(f"it claims {value:,} entries in {len(self.data):,} bytes")
        return value

    def text(self, longest: int = 1 << 24) -> str:
        length: int = self.number("<Q")
        if length > min(longest, len(self.data) - self.at):
            raise _DamagedError(f"it claims a text of {length:,} bytes")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise _DamagedError(f"it has a value of the unknown type {kind}")
        inner = self.number("<I")
        if inner == STRING:
            count = self.count(8)
            for _ in range(count):
                length: int = self.number("<Q")
                if length > LONGEST_TOKEN:
                    raise _DamagedError(f"it claims a token of {length:,} bytes")
                self.at += length
        elif inner in SCALARS:
            width = struct.calcsize(SCALARS[inner])
            count = self.count(width)
            self.at += count * width
        else:
            raise _DamagedError(f"it has an array of the type {inner}")
        return count

    def tensor(self) -> tuple[Tensor, int, int]:
        """A tensor, its size in bytes, and its offset from the start of the data."""
        name, axes = self.text(1024), self.number("<I")
        if not 1 <= axes <= 4:
            raise _DamagedError(f"{name[:60]} has {axes} axes")
        shape = struct.unpack_from(f"<{axes}Q", self.data, self.at)
        self.at += 8 * axes
        kind, offset = self.number("<I"), self.number("<Q")
        if kind not in TENSOR_TYPES:
            raise _DamagedError(f"{name[:60]} has the unknown type {kind}")
        label, values, size = TENSOR_TYPES[kind]
        if not all(shape) or shape[0] % values:
            raise _DamagedError(f"{name[:60]} has the shape {shape}, which {label} cannot have")
        return Tensor(name, shape, label), math.prod(shape) // values * size, offset
