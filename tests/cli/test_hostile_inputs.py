"""Inputs that nobody writes by mistake: each ends with its exit code and a short message, never as a bug.

Every case is one line of a table: what the input is, and how it ends. docs/log.md lists what they gave.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from made_up_run import made_up_run
from models_for_tests import tiny_model_dir

ROWS = [{"text": f"question {n} about {n * 7 % 13}", "label": f"l{n % 2}"} for n in range(60)]
SECONDS = 60.0  # processor time of a command, by far
LINES = 12  # of a message: that on columns lists the formats


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def ends(folder: Path, code: int, said: str, *arguments: str, given: str = "") -> None:
    """Run a command: it ends with this exit code, says this, and is short, in time and in lines."""
    (folder / "t.jsonl").write_bytes(lines(ROWS))
    start = time.process_time()
    done = finetooth(folder, *arguments, given=given)
    took = time.process_time() - start
    printed = done.stdout + done.stderr
    assert done.returncode == code, f"{done.returncode}: {printed[-2000:]}"
    assert said in printed, printed[-2000:]
    assert "Traceback" not in printed and "This is a bug" not in printed
    assert "\x1b]" not in printed and "\x07" not in printed and "\u202e" not in printed
    if code == 2:
        assert len(done.stderr.splitlines()) <= LINES and len(done.stderr) < 3000
    assert took < SECONDS
    assert not (folder / "MARK").exists()


def nested(depth: int, opened: str = "[", closed: str = "]") -> str:
    return opened * depth + closed * depth


CALL = "!!python/object/apply:os.system ['touch MARK']"
TRAIN = "data: {train: t.jsonl}\n"


def graded(**grader: Any) -> str:
    """A task with this grader, which may take a second for one answer."""
    return json.dumps({"data": {"train": "t.jsonl"}, "evaluate": {"grader": grader, "grader_seconds": 1}})


def formula(text: str) -> str:
    part = {"type": "string_check", "name": "a", "input": "a", "reference": "a", "operation": "eq"}
    return graded(type="multi", name="m", graders={"a": part}, calculate_output=text)


DOUBLES: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
DOUBLES["a40"] = {"type": "null"}
TASKS: dict[str, tuple[str | bytes, int, str]] = {
    "a Python object in YAML": (f"name: {CALL}\n{TRAIN}", 2, "task file"),
    "a Python name in YAML": ("seed: !!python/name:os.system\n" + TRAIN, 2, "task file"),
    "a number of 5,000 hexadecimal digits": ("seed: 0x" + "f" * 5000 + "\n" + TRAIN, 2, "digits"),
    "a seed of 1e400": ("seed: 1e400\n" + TRAIN, 2, "seed"),
    "a seed of minus nothing": ("seed: -0x1\n" + TRAIN, 2, "seed"),
    "a sexagesimal rank": ("train: {rank: 190:20:30}\n" + TRAIN, 2, "rank"),
    "epochs of nan": ("train: {epochs: .nan}\n" + TRAIN, 2, "epochs"),
    "a billion shots": ("evaluate: {shots: [1000000000]}\n" + TRAIN, 2, "shots"),
    "shots within shots": ("evaluate: {shots: [[0]]}\n" + TRAIN, 2, "shots"),
    "a negative share": ("data: {train: t.jsonl, validation: -0.5}", 2, "validation"),
    "columns that are a list": ("data: {train: t.jsonl, columns: [a, b]}", 2, "columns"),
    "columns of columns": ("data: {train: t.jsonl, columns: {text: {text: {text: x}}}}", 2, "columns"),
    "an empty file": ("", 2, "t.yaml"),
    "a file of NUL bytes": (b"\0" * 5000, 2, "t.yaml"),
    "a file in UTF-16": ("name: x\n".encode("utf-16"), 2, "t.yaml"),
    "random bytes": (bytes(range(256)) * 20, 2, "t.yaml"),
    "a name that leaves the folder": ("name: ../../x\n" + TRAIN, 2, "name"),
    "a name with a direction override": ('name: "a\\u202eb"\n' + TRAIN, 2, "name"),
    "a key with an escape": ('"\\e]0;x\\a": 1\n' + TRAIN, 2, "unknown key"),
    "a value with an escape": ('model: "\\e]0;x\\a"\n' + TRAIN, 2, "model"),
    "a pattern that is broken": (graded(name="regex", pattern="("), 2, "regular expression"),
    "a pattern that is a number": (graded(name="regex", pattern=5), 2, "regular expression"),
    "a pattern that counts too far": (graded(name="regex", pattern="a{99999999999}"), 2, "regex"),
    "a pattern of 3,000 groups, one in another": (
        graded(name="regex", pattern=nested(3000, "(", ")")),
        2,
        "regex",
    ),
    "a pattern that never ends": (
        graded(name="regex", pattern=r"(\w|\w\w|\s)*!"),
        1,  # no label is long enough for it
        "is not found",
    ),
    "a schema in itself": (graded(name="json", schema={"$ref": "#"}), 1, ""),
    "a schema of 40 levels, each twice the next": (
        graded(name="json", schema={"$ref": "#/$defs/a0", "$defs": DOUBLES}),
        1,
        "",
    ),
    "a schema from the network": (graded(name="json", schema={"$ref": "https://example.com/x"}), 1, ""),
    "a schema with a broken pattern": (
        graded(name="json", schema={"type": "string", "pattern": "("}),
        2,
        "json",
    ),
    "a schema that is nested 500 times": (
        TRAIN + "evaluate: {grader: {name: json, schema: " + "{not: " * 500 + "true" + "}" * 502,
        2,
        "",
    ),
    "a formula without end": (formula("9**9**9**9"), 1, "out of range"),
    "a formula that is nested 5,000 times": (formula(nested(5000, "(", ")")), 2, ""),
    "a formula that calls": (formula('__import__("os").system("touch MARK")'), 2, ""),
    "a template that reads attributes": (
        graded(type="string_check", name="a", input="{{ item.__class__ }}", reference="a", operation="eq"),
        1,
        "",
    ),
    "a grader of the standard library": (TRAIN + "evaluate: {grader: 'os:system'}", 1, "grader"),
    "a grader that is no name": (TRAIN + "evaluate: {grader: ':'}", 2, "grader"),
    "a grader file that is not there": (TRAIN + "evaluate: {grader: 'gone.py:g'}", 2, "no such file"),
    "a grader file that is a folder": (TRAIN + "evaluate: {grader: 'folder.py:g'}", 2, "folder.py"),
    "data that is a device": ("data: {train: /dev/zero}", 2, "/dev/zero"),
    "data that links to itself": ("data: {train: loop.jsonl}", 2, "loop.jsonl"),
    "data that is a pipe": ("data: {train: pipe.jsonl}", 2, "pipe"),
    "a pattern of files that are not there": ("data: {train: '**/[/*.jsonl'}", 2, ""),
    "a template that is a folder": ("template: folder.jinja\n" + TRAIN, 2, "folder.jinja"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TASKS)
def test_a_hostile_task(case: str, tmp_path: Path) -> None:
    text, code, said = TASKS[case]
    (tmp_path / "t.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    for folder in ("folder.py", "folder.jinja"):
        (tmp_path / folder).mkdir()
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    ends(tmp_path, code, said, "check", "t.yaml")


def bad_crc() -> bytes:
    whole = bytearray(gzip.compress(lines(ROWS)))
    whole[-8] ^= 1
    return bytes(whole)


def escaped(n: int) -> dict[str, Any]:
    return {
        "\x1b]0;x\x07": 1,
        "id": f"\x1b[2J{n}",
        "text": f"\x1b]0;x\x07{n} {n % 7}",
        "label": f"\u202e{n % 2}",
    }


FIRST = lines(ROWS)
WIDE = ",".join(f"c{n}" for n in range(20000)).encode() + b"\n" + b"," * 19999 + b"\n"
DATA: dict[str, tuple[str, bytes, int, str]] = {
    "gzip that ends early": ("d.jsonl.gz", gzip.compress(lines(ROWS))[:-20], 2, "ends early"),
    "gzip with another checksum": ("d.jsonl.gz", bad_crc(), 2, "decompressed"),
    "gzip that is none": ("d.jsonl.gz", b"\x1f\x8b" + b"\0" * 50, 2, "d.jsonl.gz"),
    "gzip of nothing but one letter": (
        "d.jsonl.gz",
        gzip.compress(b"a" * (1 << 24)) * 25,
        2,
        "times its size",
    ),
    "Parquet that is none": ("d.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", 2, "Parquet"),
    "Parquet that ends early": ("d.parquet", b"PAR1", 2, "Parquet"),
    "Arrow that is none": ("d.arrow", b"ARROW1\0\0" + b"\xff" * 100, 2, "Arrow"),
    "a row of 5,000 levels": (
        "d.jsonl",
        FIRST + b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
        1,
        "line 61",
    ),
    "a file of 100,000 levels": ("d.json", b"[" * 100000 + b"]" * 100000, 2, "d.json"),
    "a number of 5,000 digits": (
        "d.jsonl",
        FIRST + b'{"text": "x", "label": ' + b"9" * 5000 + b"}\n",
        1,
        "thousands of digits",
    ),
    "a number without end": ("d.jsonl", FIRST + b'{"text": "x", "label": 1e999}\n', 1, "infinity"),
    "rows that are numbers": ("d.jsonl", b"1\n2\n3\n", 1, "expected one JSON object"),
    "a list of lists": ("d.json", b"[[1], [2]]", 1, "expected an object"),
    "one NUL byte": ("d.jsonl", b"\0", 2, "d.jsonl"),
    "NUL in every text": ("d.jsonl", lines([row | {"text": "a\0b" + row["text"]} for row in ROWS]), 0, ""),
    "escapes in every place": ("d.jsonl", lines([escaped(n) for n in range(60)]), 0, ""),
    "a lone surrogate": ("d.jsonl", FIRST + b'{"text": "\\ud800", "label": "l0"}\n', 1, "surrogate"),
    "the same key twice": (
        "d.jsonl",
        FIRST + b'{"text": "a", "text": "b", "label": "l0"}\n',
        1,
        "duplicate key",
    ),
    "CSV of 20,000 columns": ("d.csv", WIDE, 2, "d.csv"),
    "a row of 1 MB of brackets": (
        "d.jsonl",
        FIRST + lines([{"text": "[" * 10**6, "label": "l0"}]),
        1,
        "overlong",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DATA)
def test_hostile_data(case: str, tmp_path: Path) -> None:
    name, content, code, said = DATA[case]
    (tmp_path / name).write_bytes(content)
    ends(tmp_path, code, said, "check", name)


SEEN = "{{ messages[0].content }}"
TEMPLATES: dict[str, tuple[str, int, str]] = {
    "attributes of a class": ("{{ ''.__class__.__mro__ }}" + SEEN, 2, "t.jinja"),
    "a file of the system": ("{% include '/etc/passwd' %}", 2, "t.jinja"),
    "an import": ("{% import 'os' as os %}" + SEEN, 2, "t.jinja"),
    "a cycle of macros": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", 2, "t.jinja"),
    "a power of powers": ("{{ 9 ** 9 ** 9 }}" + SEEN, 2, "t.jinja"),
    "a shift to the end": ("{{ 'a' * 10 ** 12 }}" + SEEN, 2, "t.jinja"),
    "a list that fills": ("{{ [messages] * 10 ** 9 }}", 2, "t.jinja"),
    "a text that is no template": ("{% if %}", 2, "t.jinja"),
    "5,000 parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", 2, "t.jinja"),
    "a refusal with an escape": ("{{ raise_exception('\x1b]0;x\x07') }}", 2, "t.jinja"),
    "nothing at all": ("", 2, "t.jinja"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TEMPLATES)
def test_a_hostile_template(case: str, tmp_path: Path) -> None:
    text, code, said = TEMPLATES[case]
    (tmp_path / "t.jinja").write_text(text)
    ends(tmp_path, code, said, "check", "t.jsonl", "--template", "t.jinja")


def change(name: str, **values: Any) -> Callable[[Path], None]:
    def changed(model: Path) -> None:
        file = model / name
        file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | values))

    return changed


def content(name: str, text: str | bytes) -> Callable[[Path], None]:
    def written(model: Path) -> None:
        (model / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return written


def tokenizer(**values: Any) -> Callable[[Path], None]:
    return change("tokenizer.json", **values)


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
EVIL = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
MODELS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "a vocabulary of 10^12": (change("config.json", vocab_size=10**12), 2, "vocab_size"),
    "a million layers": (change("config.json", num_hidden_layers=10**6), 2, "num_hidden_layers"),
    "minus one head": (change("config.json", num_attention_heads=-1), 2, "num_attention_heads"),
    "a size that is a list": (change("config.json", hidden_size=[64]), 2, "config.json"),
    "an architecture that nobody knows": (change("config.json", model_type="\x1b]0;x\x07"), 2, "config.json"),
    "an architecture that is a number": (change("config.json", model_type=7), 2, "config.json"),
    "config.json is a list": (content("config.json", "[]"), 2, "config.json"),
    "config.json is empty": (content("config.json", ""), 2, "config.json"),
    "config.json is in UTF-16": (content("config.json", "{}".encode("utf-16")), 2, "config.json"),
    "weights that are text": (content("model.safetensors", "x" * 100), 2, "model"),
    "weights of a header without end": (content("model.safetensors", b"\xff" * 8 + b"{}"), 2, "model"),
    "weights of nothing": (content("model.safetensors", b""), 2, "model"),
    "an index of weights elsewhere": (
        content("model.safetensors.index.json", json.dumps({"weight_map": {"a": "../../etc/passwd"}})),
        2,
        "are missing",
    ),
    "a tokenizer that is a list": (content("tokenizer.json", "[]"), 2, "tokenizer"),
    "a tokenizer that is empty": (content("tokenizer.json", ""), 2, "tokenizer"),
    "a tokenizer with a broken pattern": (tokenizer(pre_tokenizer=EVIL), 2, "tokenizer"),
    "a tokenizer of 5,000 levels": (content("tokenizer.json", nested(5000)), 2, "tokenizer"),
    "added tokens that are numbers": (tokenizer(added_tokens=[1, 2]), 2, "tokenizer"),
    "special tokens that are mappings of mappings": (
        change("tokenizer_config.json", eos_token={"a": {"b": {}}}),
        0,
        "",
    ),
    "a chat template that is a number": (change("tokenizer_config.json", chat_template=5), 0, ""),
    "a chat template without end": (change("tokenizer_config.json", chat_template=ENDLESS), 2, "5 seconds"),
    "a stop token that is a text": (change("generation_config.json", eos_token_id="x"), 2, "eos_token_id"),
    "code for its own generation": (change("generation_config.json", custom_generate="x.py"), 0, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_a_hostile_model(case: str, tmp_path: Path) -> None:
    edit, code, said = MODELS[case]
    tiny_model_dir(tmp_path / "m")
    edit(tmp_path / "m")
    ends(tmp_path, code, said, "chat", "m", "--max-tokens", "2", given="Where is it?\n")


RUNS: dict[str, tuple[str, str | bytes, int, str]] = {
    "config.yaml is a list": ("config.yaml", "[1]", 0, ""),
    "config.yaml runs code": ("config.yaml", f"name: {CALL}", 2, "config.yaml"),
    "config.yaml of 5,000 levels": ("config.yaml", "name: " + nested(5000), 2, "nested too deeply"),
    "environment.json is a list": ("environment.json", "[]", 2, "environment.json"),
    "the summary is a number": ("evaluate/summary.json", "7", 2, "damaged"),
    "the summary is nested": ("evaluate/summary.json", nested(100000), 2, "summary.json"),
    "the metrics are no rows": ("train/metrics.jsonl", "[]\n1\n", 2, "damaged"),
    "the rows are bytes": ("data/validation.jsonl", bytes(range(256)), 2, "validation.jsonl"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_a_hostile_run(case: str, tmp_path: Path) -> None:
    name, text, code, said = RUNS[case]
    made_up_run(tmp_path / "r")
    (tmp_path / "r" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    ends(tmp_path, code, said, "report", "r")
