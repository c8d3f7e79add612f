"""What a run was made with, for its page: the settings that apply, how prompts are built, and versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.method_keys import PREFERENCE_METHODS, RL_METHOD_KEYS, PreferenceKeys, RewardKeys
from finetooth.errors import ConfigError
from finetooth.report.answers import clip
from finetooth.rundir import read_json

METHOD_KEYS: Mapping[str, tuple[str, ...]] = {**PREFERENCE_METHODS, **RL_METHOD_KEYS}
OF_A_METHOD = {*PreferenceKeys.model_fields, *RewardKeys.model_fields}


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, and the reasons for automatic values from the comment lines at its end."""
    if not path.is_file():
        return {}, {}
    text = path.read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^#\s+([a-z_.]+): (.+)$", text, re.MULTILINE))
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return (values if isinstance(values, dict) else {}), reasons


def settings(config: Mapping[str, Any], reasons: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(dotted key, value, why if it was automatic) of the settings that have an effect on this run."""
    train = config.get("train") or {}
    method = train.get("method", "sft") if isinstance(train, Mapping) else "sft"
    unread = OF_A_METHOD - set(METHOD_KEYS.get(method, ()))
    unread |= {"rank"} if isinstance(train, Mapping) and train.get("adapter") == "none" else set()
    return [
        (key, value, reasons.get(key, "").removeprefix(f"{value}: "))
        for key, value in _dotted_keys(config)
        if value != "" and not (key.startswith("train.") and key.removeprefix("train.") in unread)
    ]


def _dotted_keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _dotted_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value in ("", {}, [], None) else clip(str(value))


def prompts_in_words(path: Path, config: Mapping[str, Any]) -> str:
    """How all candidates are prompted, in a sentence; "" for a run that keeps no record of it."""
    facts = (read_json(path) if path.is_file() else {}).get("prompts")
    if facts is None:
        return ""
    name = facts["template"]
    names = {"chat": "the model's chat template", "file": "the template in template.jinja"}
    given, added = clip(config.get("instruction") or ""), clip(facts["added_system"])
    system = "without a system message, but for rows that bring their own"
    if given:
        system = f"with the system message “{given}”"
    elif added:
        system = f"with the system message that it adds where a row has none: “{added}”"
    asked = f"Prompts follow {names.get(name, f'the {name} template')}, {system}."
    if tuned := config.get("tuned"):
        base = clip(str(config.get("model", "")))
        asked += f" The tuned model, {clip(str(tuned))}, was trained elsewhere; prompts are asked of {base}."
    return asked


def environment_in_words(path: Path) -> str:
    """Versions and machine in one line, empty without environment.json."""
    facts = read_json(path) if path.is_file() else {}
    parts = [f"{name} {version}" for name, version in facts.get("versions", {}).items()]
    machine, model, start = (facts.get(key) or {} for key in ("machine", "model", "start"))
    parts += [str(machine[key]) for key in ("system", "processor") if key in machine]
    parts += [f"base model {model['digest'][:12]}"] if "digest" in model else []
    parts += [f"continues {start['run']} ({start['digest'][:12]})"] if start else []
    return " · ".join(parts)
