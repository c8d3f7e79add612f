"""Prepare milktooth's pretraining: corpus files in, rows + tokenizer + model configuration out.

    python recipes/milktooth/prepare.py --corpus DIR --out .staging/milktooth

reads DIR/NAME.txt.gz for the sources listed below (UTF-8; documents are split by a blank line, paragraphs by
a line end) and writes under --out:

    train.jsonl            {"text": ...} rows of at most --row-tokens tokens, shuffled by --seed
    validation.jsonl       128 rows of the documents held out (1% of every source), never in train.jsonl
    heldout/NAME.jsonl     the same rows by source, for measure.py
    model/                 tokenizer.json, tokenizer_config.json, chat_template.jinja, config.json,
                           generation_config.json: a model directory without weights (fresh from the seed)
    prepared.json          what was counted

Needs only the tokenizers package; under a minute on one core.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END, TURN, TURN_END, PAD = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
VOCABULARY = 6144
POSITIONS = 2048
VALIDATION_ROWS = 128  # for the loss during training; measure.py takes all held-out rows
# A paragraph this long (characters) that was seen before is boilerplate or a second edition; shorter ones
# repeat by chance ("Yes.").
REPEAT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus file and how it is used.

    joined: blocks follow each other as they do in the book, so that a row may span them.
    repeats: how often its training rows are given. sample_mb: its part of the tokenizer's training text.
    """

    name: str
    sample_mb: float
    joined: bool = False
    repeats: int = 1


# The tokenizer's sample leans to modern, everyday English, because that is what users' rows look like.
SOURCES = (
    Source("openstax_ccby", sample_mb=1.5),
    Source("classic_books_pd", sample_mb=0.8, joined=True),
    Source("childrens_books_pd", sample_mb=0.8, joined=True),
    Source("factbook_pd", sample_mb=0.2),
    Source("us_speeches_pd", sample_mb=0.2),
    Source("storybooks_ccby", sample_mb=0.8, repeats=2),
    Source("taskmaster4_dialogues", sample_mb=0.5, repeats=2),
)

CHAT_TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": [0, 2],
    "pad_token_id": 3,
    "dtype": "bfloat16",
}


def read_blocks(path: Path) -> list[str]:
    """The file's blank-line separated blocks, repaired, without blocks and long paragraphs seen before."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    # Bytes of another code page that were lost before us: a dash is left as "�X", quotes as one or two "�".
    text = re.sub("�+", "'", text.replace("�X", "--"))
    return [block.strip() for block in re.split(r"\n{2,}", text) if block.strip()]


def without_repeats(blocks: Iterable[str], seen: set[bytes]) -> list[str]:
    """Blocks without what `seen` holds already: whole blocks, and paragraphs of REPEAT_CHARS or more."""

    def first_time(text: str) -> bool:
        key = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=16).digest()
        new = key not in seen
        seen.add(key)
        return new

    kept = []
    for block in blocks:
        paragraphs = block.split("\n")
        if len(paragraphs) > 1 and not first_time(block):
            continue
        text = "\n".join(p for p in paragraphs if len(p) < REPEAT_CHARS or first_time(p))
        if text.strip():
            kept.append(text)
    return kept


def choose_held_out(blocks: list[str], share: float, seed: int) -> set[str]:
    """The blocks with the smallest hashes, `share` of all and at least one: no order or chance decides."""

    key = {text: hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest() for text in blocks}
    return set(sorted(blocks, key=key.__getitem__)[: math.ceil(share * len(blocks))])


def documents(source: Source, blocks: list[str], held_out: set[str]) -> Iterator[tuple[bool, str]]:
    """(held out, document) for all of a source; runs of training blocks of a book are one document."""
    run: list[str] = []
    for block in blocks:
        held = block in held_out
        if source.joined and not held:
            run.append(block)
            continue
        if run:
            yield False, "\n\n".join(run)
            run = []
        yield held, block
    if run:
        yield False, "\n\n".join(run)


def pieces(text: str, limit: int, tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """The text cut where it may be cut, with token counts: paragraphs, else sentences, else words.

    Concatenated, the pieces are the text again, and their counts add up to its count: every cut lies where
    the pre-tokenizer cuts anyway. Raises ValueError when a single word exceeds `limit` tokens.
    """
    paragraphs = text.splitlines(keepends=True)
    done: list[tuple[str, int]] = []
    for paragraph, code in zip(paragraphs, tokenizer.encode_batch_fast(paragraphs), strict=True):
        if len(code) <= limit // 2:
            done.append((paragraph, len(code)))
            continue
        for sentence in re.split(r"(?<=[.!?;])(?= \S)", paragraph):
            size = len(tokenizer.encode(sentence))
            parts = [sentence] if size <= limit else re.findall(r"\s*\S+\s*$|\s*\S+", sentence)
            done += [(part, len(tokenizer.encode(part))) for part in parts]
    if any(count > limit for _, count in done):
        raise ValueError(f"a single word has more than {limit} tokens; use a larger --row-tokens")
    return done


def rows(text: str, limit: int, tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """Consecutive pieces of one document joined to rows of at most `limit` tokens, with their counts."""
    row: list[str] = []
    filled = 0
    for piece, count in pieces(text, limit, tokenizer):
        if filled + count > limit:
            yield "".join(row).strip("\n "), filled
            row, filled = [], 0
        row.append(piece)
        filled += count
    if "".join(row).strip():
        yield "".join(row).strip("\n "), filled


def sample_text(blocks: dict[str, list[str]], seed: int) -> Iterator[str]:
    """The tokenizer's training text: random blocks of every source until its share is reached."""
    for source in SOURCES:
        order = list(blocks[source.name])
        random.Random(f"{seed} {source.name}").shuffle(order)
        left = int(source.sample_mb * 1e6)
        for block in order:
            yield block[:left]
            left -= len(block)
            if left <= 0:
                break


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with VOCABULARY entries: any text is encoded without loss, digits one by one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_model(directory: Path, tokenizer: Tokenizer) -> None:
    """A model directory in Hugging Face's format, complete but for the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [TURN, TURN_END],
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(directory / "tokenizer_config.json", settings)
    write_json(directory / "config.json", CONFIG)
    write_json(
        directory / "generation_config.json", {k: CONFIG[k] for k in CONFIG if k.endswith("_token_id")}
    )


def write_json(path: Path, value: object) -> None:
    """Readable JSON with a line end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_rows(path: Path, texts: Iterable[str]) -> None:
    """One {"text": ...} object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def prepare(corpus: Path, out: Path, row_tokens: int, held_out: float, seed: int) -> dict[str, object]:
    """Write everything named at the top of this file; returns what prepared.json holds."""
    seen: set[bytes] = set()
    blocks = {s.name: without_repeats(read_blocks(corpus / f"{s.name}.txt.gz"), seen) for s in SOURCES}
    tokenizer = train_tokenizer(sample_text(blocks, seed))
    write_model(out / "model", tokenizer)
    limit = row_tokens - 2  # the trainer adds the begin and the end token
    training: list[str] = []
    validation: list[str] = []
    counts: dict[str, object] = {}
    for source in SOURCES:
        sides: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
        chosen = choose_held_out(blocks[source.name], held_out, seed)
        for held, text in documents(source, blocks[source.name], chosen):
            sides[held].extend(rows(text, limit, tokenizer))
        training += [text for text, _ in sides[False]] * source.repeats
        validation += [text for text, _ in sides[True]]
        write_rows(out / "heldout" / f"{source.name}.jsonl", (text for text, _ in sides[True]))
        counts[source.name] = asdict(source) | {
            "train_rows": len(sides[False]),
            "train_tokens": sum(count for _, count in sides[False]),
            "train_bytes": sum(len(text.encode()) for text, _ in sides[False]),
            "heldout_rows": len(sides[True]),
            "heldout_tokens": sum(count for _, count in sides[True]),
        }
        print(source.name, json.dumps(counts[source.name]), flush=True)
    random.Random(seed).shuffle(training)
    write_rows(out / "train.jsonl", training)
    few = random.Random(seed).sample(validation, min(VALIDATION_ROWS, len(validation)))
    write_rows(out / "validation.jsonl", few)
    summary = {"row_tokens": row_tokens, "seed": seed, "rows": len(training), "sources": counts}
    write_json(out / "prepared.json", summary)
    return summary


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of NAME.txt.gz files")
    parser.add_argument("--out", type=Path, default=Path(".staging/milktooth"))
    parser.add_argument("--row-tokens", type=int, default=512, help="longest row, begin and end included")
    parser.add_argument("--held-out", type=float, default=0.01, help="share of documents not trained on")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    summary = prepare(options.corpus, options.out, options.row_tokens, options.held_out, options.seed)
    print(f"{summary['rows']} training rows in {options.out}")


if __name__ == "__main__":
    main()
