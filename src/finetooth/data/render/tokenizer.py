"""The tokenizer of a model directory, loaded with `tokenizers` alone.

Neither torch nor transformers is imported, except in `convert`, for old models without a tokenizer.json.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import tokenizers

from finetooth.data.model_files import first_line, named_code, refusing
from finetooth.data.model_files import read_object as _read
from finetooth.errors import ModelError
from finetooth.rundir import write_text

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
SLOW_FILES = ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "vocab.txt", "added_tokens.json")
ORDINARY = re.compile(r"\w+|\s+|.", re.DOTALL)  # a word, white space or one character: no markup
NO_LIMIT = 10**9  # from here on; Hugging Face writes 1e30 for an unknown limit


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """A model's tokenizer and chat template.

    special_tokens: bos_token, eos_token ... -> text, those that the model has. special_ids: all tokens that
    are markup and not text. special_texts: how they are written, without those that people write anyway, such
    as a line break or a word. prefix_ids: ids that the post-processor puts in front of a text (BOS).
    model_max_length: in tokens, None if the files do not say.
    """

    backend: tokenizers.Tokenizer
    directory: Path
    special_tokens: Mapping[str, str]
    special_ids: frozenset[int]
    special_texts: tuple[str, ...]
    prefix_ids: tuple[int, ...]
    chat_template: str | None
    model_max_length: int | None

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """The tokenizer of a local directory. Raises ModelError if there is none or it is broken."""
        with refusing(f"{directory}: its tokenizer files cannot be used", "Copy them from the model again."):
            return cls._load(Path(directory))

    @classmethod
    def _load(cls, directory: Path) -> Tokenizer:
        config = _read(directory / "tokenizer_config.json")
        backend = _backend(directory)
        backend.no_truncation()
        backend.no_padding()
        named = _named_tokens(config, _read(directory / "special_tokens_map.json"))
        if "eos_token" not in {*named, *config}:  # then the ids in the model's own config count
            named = _model_tokens(backend, directory, config) | named
        _add_declared(backend, config, named)
        special = {
            index: token.content
            for index, token in backend.get_added_tokens_decoder().items()
            if token.special
        }
        limit = config.get("model_max_length")
        return cls(
            backend=backend,
            directory=directory,
            special_tokens=named,
            special_ids=frozenset(special),
            special_texts=tuple(
                sorted({text for text in special.values() if not _is_ordinary(text)}, key=len, reverse=True)
            ),
            prefix_ids=_prefix(backend),
            chat_template=_chat_template(directory, config),
            model_max_length=int(limit) if isinstance(limit, int | float) and 0 < limit < NO_LIMIT else None,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Special tokens in the text are recognised; none are added."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the (start, end) of each in characters of the text."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return list(encoding.ids), list(encoding.offsets)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of ids, including special tokens unless skipped."""
        return str(self.backend.decode([int(index) for index in ids], skip_special_tokens=skip_special))

    def id_of(self, token: str) -> int | None:
        """The id of a token, None if the vocabulary does not have it."""
        index = self.backend.token_to_id(token)
        return None if index is None else int(index)

    def text_of(self, index: int) -> str:
        """A token as spelled in the vocabulary (special tokens: their text)."""
        return str(self.backend.id_to_token(int(index)) or "")

    def special_in(self, text: str, stop: int | None = None) -> str:
        """The first of `special_texts` in a text, "" if there is none.

        stop: for an answer, the token that ends it, which counts however it is written, as EOS does.
        """
        ends = [] if stop is None else [self.text_of(stop), self.special_tokens.get("eos_token", "")]
        return next((special for special in (*self.special_texts, *ends) if special and special in text), "")

    def _named_id(self, name: str) -> int | None:
        return self.id_of(self.special_tokens[name]) if name in self.special_tokens else None

    @property
    def bos_token_id(self) -> int | None:
        """Id of the beginning-of-sequence token, None if the model has none."""
        return self._named_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the end-of-sequence token, None if the model has none."""
        return self._named_id("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token, None if the model has none."""
        return self._named_id("pad_token")

    @property
    def unknown_id(self) -> int | None:
        """Id for text outside the vocabulary; None if every text can be encoded.

        From the tokenizer's model, not its configuration: GPT-2's names its end token, and never uses it.
        """
        text = getattr(self.backend.model, "unk_token", None)
        index = self.id_of(text) if text else None
        return None if index in (self.bos_token_id, self.eos_token_id, self.pad_token_id) else index

    @property
    def vocab_size(self) -> int:
        """Number of ids, including added tokens."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def save(self, directory: str | Path, chat_template: str | None = None) -> None:
        """Copy the tokenizer's files to another model directory, creating tokenizer.json if there is none.

        chat_template: the template that the model was trained with; it is written as chat_template.jinja and
        replaces the one in tokenizer_config.json.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if directory.resolve() != self.directory.resolve():
            for name in FILES:
                if (self.directory / name).is_file():
                    shutil.copyfile(self.directory / name, directory / name)
        if not (directory / "tokenizer.json").is_file():
            write_text(directory / "tokenizer.json", self.backend.to_str())
        config = _read(directory / "tokenizer_config.json")
        known = _named_tokens(config, _read(directory / "special_tokens_map.json"))
        # Tokens from the model's config.json are written too: an adapter's directory has no such file.
        wanted = config | {name: text for name, text in self.special_tokens.items() if name not in known}
        if chat_template is not None and chat_template != self.chat_template:
            write_text(directory / "chat_template.jinja", chat_template)
            wanted.pop("chat_template", None)
        if wanted != config:
            text = json.dumps(wanted, indent=2, ensure_ascii=False)
            write_text(directory / "tokenizer_config.json", text + "\n")


def convert(directory: Path) -> tokenizers.Tokenizer:
    """Convert the slow tokenizer of a model without tokenizer.json, with transformers, offline."""
    # The only heavy import outside model/, by name, so that it is not loaded before it is needed.
    transformers = import_module("transformers")
    try:
        slow = transformers.AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
        return tokenizers.Tokenizer.from_str(slow.backend_tokenizer.to_str())
    except Exception as error:  # whatever transformers raises, the remedy is the same
        if code := named_code(_read(directory / "tokenizer_config.json"), _read(directory / "config.json")):
            raise ModelError(
                f"{directory}: its tokenizer is code of its own ({code}), which is never run. It needs a "
                "tokenizer.json: save it once with transformers, where you trust that code."
            ) from None
        raise ModelError(
            f"{directory}: no tokenizer.json, and the older tokenizer files could not be converted "
            f"({type(error).__name__}: {first_line(error)}). Save the model once with a current transformers."
        ) from error


def _backend(directory: Path) -> tokenizers.Tokenizer:
    path = directory / "tokenizer.json"
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory. Expected a model directory with a tokenizer.json.")
    if path.is_file():
        with refusing(f"{path}: not a tokenizer file", "Copy it from the model again."):
            return tokenizers.Tokenizer.from_file(str(path))
    if any((directory / name).is_file() for name in SLOW_FILES):
        return convert(directory)
    found = ", ".join(sorted(item.name for item in directory.iterdir())[:8]) or "nothing"
    raise ModelError(
        f"{directory}: no tokenizer. Looked for tokenizer.json, then for {', '.join(SLOW_FILES)}; "
        f"found {found}. Copy the tokenizer files of the base model into this directory."
    )


def _text(token: Any) -> str | None:
    """The text of a special token, which the files spell as text or as an object with `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _is_ordinary(text: str) -> bool:
    return not text or ORDINARY.fullmatch(text) is not None


def _named_tokens(config: Mapping[str, Any], special_map: Mapping[str, Any]) -> dict[str, str]:
    """The named special tokens in tokenizer_config.json, else in special_tokens_map.json."""
    named = {}
    for name in NAMED:
        text = _text(config[name] if name in config else special_map.get(name))
        if text is not None:
            named[name] = text
    return named


def _model_tokens(
    backend: tokenizers.Tokenizer, directory: Path, config: Mapping[str, Any]
) -> dict[str, str]:
    """EOS, BOS and PAD from the ids in config.json, then in generation_config.json.

    In a list of ids the first one counts. A token that tokenizer_config.json sets to null stays unset.
    """
    files = [_read(directory / name) for name in ("config.json", "generation_config.json")]
    named: dict[str, str] = {}
    for name in ("eos_token", "bos_token", "pad_token"):
        for values in files:
            index = values.get(f"{name}_id")
            index = index[0] if isinstance(index, list) and index else index
            text = backend.id_to_token(index) if isinstance(index, int) and index >= 0 else None
            if text and name not in config:
                named.setdefault(name, text)
    return named


def _add_declared(backend: tokenizers.Tokenizer, config: Mapping[str, Any], named: Mapping[str, str]) -> None:
    """Add tokens that only tokenizer_config.json declares, as transformers does when loading."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    declared = config.get("added_tokens_decoder") or {}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for index, entry in sorted(declared.items(), key=lambda item: int(item[0])):
        text = _text(entry)
        if text is None or text in known:
            continue
        options = {name: bool(entry[name]) for name in flags if isinstance(entry, Mapping) and name in entry}
        backend.add_tokens([tokenizers.AddedToken(text, **options)])
        if backend.token_to_id(text) != int(index):
            raise ModelError(
                f"{text!r} has the id {index} in tokenizer_config.json, but {backend.token_to_id(text)} in "
                "tokenizer.json. The two files are not of one model: copy both again."
            )
    more = config.get("extra_special_tokens") or ()
    extra = [
        *(config.get("additional_special_tokens") or ()),
        *(more.values() if isinstance(more, Mapping) else more),
    ]
    wanted = [text for text in [*named.values(), *map(_text, extra)] if text]
    known = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    missing = [text for text in dict.fromkeys(wanted) if text not in known]
    if missing:
        backend.add_special_tokens(missing)


def _prefix(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """Ids that the post-processor puts in front of a text. Nothing else decides this, as in transformers."""
    plain = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(int(index) for index in full[:start])
    return ()


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else the config's text, else the entry named `default` in its list."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not UTF-8 ({error}). Copy it from the model again.") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, Mapping)}
        template = named.get("default")
    return template if isinstance(template, str) and template else None
