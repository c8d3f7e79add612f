"""Tiny real tokenizers with the chat templates of real families: trained here, saved as a model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "The quick brown fox jumps over the lazy dog. What is the capital of France? Paris, of course!",
    "### Instruction:\nTranslate the text.\n\n### Input:\nGood morning\n\n### Response:\nGuten Morgen\n",
    "user assistant system INST model start of turn header id Which way? Left, then right.",
    "Two:\n\nThree:\n\n\nTwo:\n\n  Three:\n\n\n   Two:\n\nThree:\n\n\nSpaces   and\n\n\n\n\nlines.\n\n",
    "Numbers such as 1, 23, 456 and 7890; signs like (these), \"those\" and 'others' - or dashes.",
]

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# A default system prompt that no message mentions, as in Qwen2.5.
CHATML_DEFAULT_SYSTEM = (
    """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
"""
    + CHATML
)

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# Asks whether there are tools by `is not none`, as Llama 3.1 and 3.2 do: an empty list counts as tools.
LLAMA31 = """\
{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}
{%- if documents is not none %}{{- 'Documents:\\n' }}{%- endif %}
{{- 'Cutting Knowledge Date: December 2023\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}
{% set loop_messages = messages[1:] %}
{% set system_message = messages[0]['content'] %}
{% else %}
{% set loop_messages = messages %}
{% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if loop.index0 == 0 and system_message != false %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}
{% set content = message['content'] %}
{% endif %}
{% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
{% elif message['role'] == 'assistant' %}
{{- ' ' + content.strip() + ' ' + eos_token -}}
{% endif %}
{% endfor %}
"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

# Drops the reasoning of earlier turns; the generation prompt opens the thought that every answer closes.
THINKING = """\
{%- for message in messages %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'assistant' and not loop.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

# The answer is opened by an empty thought that the generation prompt does not have: cannot be trained on.
EMPTY_THOUGHT = "('<think>\\n\\n</think>\\n\\n' if message['role'] == 'assistant' else '')"
HIDDEN_THINK = CHATML.replace("message['content'] +", f"{EMPTY_THOUGHT} + message['content'] +")

# The last answer is opened by its thought, an empty one where it has none; so is the generation prompt, but
# only when thinking is switched off. As in Qwen3, without the parts for tools.
QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.searching and message.role == 'user' %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

TOKENS: dict[str, dict[str, str]] = {
    "chatml": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "open": "<|im_start|>"},
    "llama3": {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "start": "<|start_header_id|>",
        "end": "<|end_header_id|>",
    },
    "llama2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "gemma": {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "open": "<start_of_turn>",
        "close": "<end_of_turn>",
    },
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
}

# family -> (chat template, its tokens, whether the post-processor puts BOS in front of a text)
FAMILIES: dict[str, tuple[str | None, str, bool]] = {
    "chatml": (CHATML, "chatml", False),
    "chatml-default-system": (CHATML_DEFAULT_SYSTEM, "chatml", False),
    "thinking": (THINKING, "chatml", False),
    "qwen3": (QWEN3, "chatml", False),
    "llama3": (LLAMA3, "llama3", True),
    "llama3.1": (LLAMA31, "llama3", True),
    "llama2": (LLAMA2, "llama2", True),
    "llama2-metaspace": (LLAMA2, "llama2", True),
    "zephyr": (ZEPHYR, "llama2", True),
    "zephyr-without-bos": (ZEPHYR, "llama2", False),
    "gemma": (GEMMA, "gemma", True),
}
BASE: dict[str, tuple[str | None, str, bool]] = {
    "gpt2": (None, "gpt2", False),
    "llama-base": (None, "llama2", True),
    "metaspace-base": (None, "llama2", True),
}


# How Llama 3 and Qwen cut a text before merging: line breaks stay with what is before them.
LLAMA3_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(special: list[str], vocab_size: int = 400, pieces: str | None = None) -> tokenizers.Tokenizer:
    """A byte-level BPE, cut into pieces as in GPT-2, or by another pattern."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pieces is not None:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(pieces), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


def metaspace(special: list[str], vocab_size: int = 400) -> tokenizers.Tokenizer:
    """A BPE over words with a leading mark for the space and bytes as a fallback, as in SentencePiece."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    backend.train_from_iterator([word for line in SENTENCES for word in line.split()], trainer)
    spec = json.loads(backend.to_str())  # the bytes are vocabulary, not markup
    spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def save_tokenizer(
    directory: Path,
    family: str = "chatml",
    template: str | None = None,
    vocab_size: int = 400,
    **config: Any,
) -> Path:
    """Write tokenizer.json and tokenizer_config.json of a family into `directory`, and return it.

    template: instead of the family's. config: more keys of tokenizer_config.json; None takes a key out.
    """
    family_template, names, with_bos = {**FAMILIES, **BASE}[family]
    tokens = TOKENS[names]
    special = list(dict.fromkeys(tokens.values()))
    if "metaspace" in family:
        backend = metaspace(special, max(vocab_size, 420))
    else:
        backend = byte_level(special, vocab_size, LLAMA3_PIECES if names in ("chatml", "llama3") else None)
    if with_bos:
        bos = tokens["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    values = {name: text for name, text in tokens.items() if name.endswith("_token")}
    values |= {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template or family_template}
    values |= config
    values = {name: value for name, value in values.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return directory
