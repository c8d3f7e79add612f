"""A GGUF file as a model directory in the cache: config, tokenizer and stop tokens; the weights on demand.

    CACHE/gguf/SHA256/   config.json, tokenizer.json, ..., gguf.json (which file, its types), and the weights,
                         model.safetensors, once model/dequantise.py has been there

transformers reads the configuration and the tokenizer; it is loaded by name, once for each file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers, processors

from finetooth.data.cache import Say, exclusive, required_directory, silent
from finetooth.data.gguf_file import Header, read_header
from finetooth.data.model_files import read_config, read_object, refusing
from finetooth.errors import ModelError
from finetooth.rundir import atomic_directory, sha256_file, write_json, write_text

SOURCE = "gguf.json"
LAYOUT = 1  # of the cached directory; another number is made anew
# Byte-level vocabularies whose digits stand alone, by tokenizer.ggml.pre; transformers splits as GPT-2 does.
DIGITS_ALONE = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")


def model_directory(file: Path, say: Say = silent) -> Path:
    """The cached directory of a GGUF file, made if there is none, which `say` tells. Raises ModelError.

    Its weights may be missing; see model/dequantise.py.
    """
    home = required_directory("gguf")
    header = read_header(file)
    directory = home / _digest(file, home)
    with exclusive(directory):
        if read_object(directory / SOURCE).get("layout") != LAYOUT:
            say(f"{file.name}: converting its tokenizer; this happens once")
            with atomic_directory(directory) as made:
                made.mkdir(parents=True)
                _write(file, header, made)
    if read_object(directory / SOURCE).get("file") != str(file.resolve()):  # moved, or a copy
        write_json(directory / SOURCE, _source(file, header))
    return directory


def source_of(directory: Path) -> dict[str, Any]:
    """What gguf.json says of a cached directory; {} for any other directory."""
    return read_object(directory / SOURCE)


def _source(file: Path, header: Header) -> dict[str, Any]:
    kinds = sorted({tensor.kind for tensor in header.tensors})
    return {
        "layout": LAYOUT,
        "file": str(file.resolve()),
        "quantisation": header.quantisation,
        "types": kinds,
        "architecture": header.architecture,
        "parameters": header.parameters,
    }


def _digest(file: Path, home: Path) -> str:
    """The file's sha256, remembered by path, size and time, since reading gigabytes takes long."""
    facts = file.stat()
    key = f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
    note = home / "digests" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        if len(known := note.read_text(encoding="ascii")) == 64:
            return known
    except (OSError, ValueError):
        pass
    digest = sha256_file(file)
    write_text(note, digest)
    return digest


def _write(file: Path, header: Header, directory: Path) -> None:
    transformers = import_module("transformers")
    given = {"gguf_file": file.name, "local_files_only": True}
    where = str(file.resolve().parent)
    what = f"{file}: a GGUF file of the architecture {header.architecture[:40]!r}, which cannot be used"
    with refusing(what, "Take the original model in safetensors."), header_read_once():
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False, **given).to_dict()
        for name in ("quantization_config", "_name_or_path"):
            config.pop(name, None)
        write_json(directory / "config.json", config)
        read_config(directory)  # refuses sizes that no model has
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False, **given)
        tokenizer.save_pretrained(str(directory))
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend = _as_trained(backend, header.metadata, tokenizer.bos_token, tokenizer.bos_token_id)
    write_text(directory / "tokenizer.json", backend.to_str())
    ends = [header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ids = list(dict.fromkeys(index for index in ends if isinstance(index, int)))
    if any(index >= backend.get_vocab_size() for index in ids):
        raise ModelError(f"{file}: its end tokens {ids} are outside its vocabulary.")
    write_json(directory / "generation_config.json", {"eos_token_id": ids} if ids else {})
    write_json(directory / SOURCE, _source(file, header))


@contextmanager
def header_read_once() -> Iterator[None]:
    """Inside, transformers reads a GGUF file's header once, for the config, the tokenizer and the weights.

    The gguf package makes a view of a memory map for each of a vocabulary's texts, which takes three times as
    long as views of a plain array, and transformers has it read anew for each of the three.
    """
    gguf: Any = import_module("gguf")
    stock = gguf.GGUFReader

    class PlainReader(stock):  # type: ignore[misc, valid-type]
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = mapped.view(np.ndarray)

    gguf.GGUFReader = cache(PlainReader)
    try:
        yield
    finally:
        gguf.GGUFReader = stock


def _as_trained(
    backend: tokenizers.Tokenizer, metadata: Mapping[str, Any], bos: str | None, bos_id: int | None
) -> tokenizers.Tokenizer:
    """The tokenizer with what the file says and transformers leaves out: single digits, and the BOS token."""
    if metadata.get("tokenizer.ggml.pre") in DIGITS_ALONE:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    # Files of SentencePiece vocabularies without the key are older than it, and meant yes.
    default = metadata.get("tokenizer.ggml.model") == "llama"
    wanted = metadata.get("tokenizer.ggml.add_bos_token", default) and bos is not None and bos_id is not None
    if wanted and backend.encode("a", add_special_tokens=True).ids[:1] != [bos_id]:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, bos_id)]
        )
    return backend


def find_in(directory: Path) -> Path | None:
    """The GGUF file of a directory without config.json; None if there is none. ModelError for several."""
    found = sorted(path for path in directory.glob("*.gguf") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        if "-of-" in found[0].name:
            read_header(found[0])  # raises: one part of several
        raise ModelError(f"{directory}: {len(found)} GGUF files ({names}). Name one: model: {found[0]}")
    return found[0] if found else None
