"""Finds the files of a source: a file, a glob, a directory, a data set on the hub, or a list of these.

A directory, or a data set on the hub, may contain several splits. They are identified by the data set's card
(`configs` in the front matter of README.md), else by file names such as `train.jsonl` or
`data/test-00000-of-00002.parquet`.
"""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.values import DATA_FILES, expand_path, hub_parts, is_hub_id
from finetooth.data.hub import dataset_directory
from finetooth.data.read.table import first_duplicate
from finetooth.errors import DataError
from finetooth.rundir import has_manifest

EXPECTED = f"Expected a {', '.join(DATA_FILES[:-1])} or {DATA_FILES[-1]} file, or one of them with .gz."
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ANY_SPLIT = "|".join(name for names in SPLIT_NAMES.values() for name in names)
SPLIT = re.compile(rf"(?<![a-z0-9])({ANY_SPLIT})(?![a-z0-9])")
CARD = re.compile(r"---\n(.*?)\n---", re.DOTALL)
# Files that describe a data set and contain no rows.
STATE = "state.json"
METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", STATE}
METADATA |= {f"{name}.txt" for name in ("readme", "license", "licence", "copying", "notice", "requirements")}
PART = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})(\.\D.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read. name: for messages and tags. document: a text file that is a single document."""

    path: Path
    name: str
    weight: float = 1.0
    document: bool = False


def find_files(source: str | Path | Sequence[Any], side: str = "train") -> tuple[list[Source], list[str]]:
    """The files of a source, in order, and notes on files that are skipped.

    source: a path, glob, directory or hub id, or a list of these and of {path, weight}. side: train,
    validation or test; selects files in a directory. Raises DataError if there are none.
    """
    entries = [source] if isinstance(source, str | Path) else source
    found: list[tuple[Path, float, bool]] = []
    notes: list[str] = []
    for entry in entries:
        file: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {"path": entry}
        name, weight = str(file["path"]), float(file.get("weight", 1.0))
        chosen, folder, skipped = _files(name, side)
        found += [(path, weight, folder) for path in chosen]
        if skipped:
            listed = ", ".join(str(path) for path in skipped[:5])
            notes.append(f"{name}: {len(skipped)} files are not read for {side}: {listed}.")
        missing = _missing_parts(chosen) if len(chosen) > 1 or folder else []
        if missing:
            notes.append(f"{name}: {len(missing)} parts are missing: {', '.join(missing[:5])}.")
    paths = [path.absolute() for path, _, _ in found]
    duplicate = first_duplicate(map(str, paths))
    if duplicate is not None:
        raise DataError(
            f"{duplicate}: named twice. To double the weight of its rows: "
            f"{{path: {Path(duplicate).name}, weight: 2}}."
        )
    texts = {path for path in paths if kind_of(path) == ".txt" and not SPLIT.fullmatch(_stem(path))}
    names = [path.name for path in paths]
    if len(set(names)) < len(names):  # then the paths below the directory that all share
        shared = os.path.commonpath([path.parent for path in paths])
        names = [path.relative_to(shared).as_posix() for path in paths]
    return [
        Source(path, name, weight, path.absolute() in texts and (folder or len(texts) > 1))
        for (path, weight, folder), name in zip(found, names, strict=True)
    ], notes


def kind_of(path: Path) -> str:
    """The extension that determines how a file is read, in lower case and without .gz; '' if unknown."""
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in DATA_FILES if name.endswith(ending)), "")


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]


def _missing_parts(paths: Sequence[Path]) -> list[str]:
    """The missing files of numbered parts, as in `train-00000-of-00002.parquet`."""
    numbers: dict[tuple[Path, str, str, str], set[int]] = {}
    for path in paths:
        match = PART.fullmatch(path.name)
        if match:
            start, number, total, end = match.groups()
            numbers.setdefault((path.parent, start, total, end), set()).add(int(number))
    return [
        f"{start}-{number:0{len(total)}d}-of-{total}{end}"
        for (_, start, total, end), present in numbers.items()
        for number in range(int(total))
        if len(present) < int(total) and number not in present
    ]


def _files(name: str, side: str) -> tuple[list[Path], bool, list[Path]]:
    """The files that a name stands for, whether it is a directory, and the data files skipped there."""
    path = expand_path(name)
    try:
        if path.is_dir():
            chosen, skipped = _in_directory(path, side, None, name)
            return chosen, True, skipped
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{name[:200]}: cannot be opened: {getattr(error, 'strerror', error)}.") from None
    if exists:
        return [path], False, []
    if glob.has_magic(name):
        items = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        matched = [item for item in sorted(map(Path, items)) if not _is_in_run(item, name)]
        chosen = [item for item in matched if item.is_file() and kind_of(item)]
        if not chosen:
            what = f"only {', '.join(item.name for item in matched[:5])}" if matched else "nothing"
            raise DataError(f"{name}: matches {what}. {EXPECTED}")
        return chosen, False, [item for item in matched if not (item.is_file() and kind_of(item))]
    if is_hub_id(name):
        repository, revision, part = hub_parts(name)
        folder = dataset_directory(repository, revision)
        chosen, skipped = _in_directory(folder, side, part, name)
        return chosen, True, skipped
    siblings = sorted(item.name for item in path.parent.glob("*") if kind_of(item))
    others = f" In {path.parent} there are: {', '.join(siblings[:5])}." if siblings else ""
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.7)
    others += f" Did you mean {path.with_name(near[0])}?" if near else ""
    raise DataError(f"{path}: no such file. {EXPECTED}{others}")


def _in_directory(folder: Path, side: str, part: str | None, name: str) -> tuple[list[Path], list[Path]]:
    """The files of a side in a directory, sorted, and the other data files.

    part: a configuration or split in the data set's card, or a folder.
    """
    files = sorted(path for path in _walk(folder) if kind_of(path) and path.name.lower() not in METADATA)
    chosen = _configured(folder, files, side, part, name)
    if chosen is None and part:
        if not (folder / part).is_dir():
            raise DataError(f"{name}: the data set has neither a configuration nor a folder {part!r}.")
        folder = folder / part
        files = [path for path in files if path.is_relative_to(folder)]
    if not files:
        others = sorted(item.name for item in folder.iterdir())
        found = f" Found: {', '.join(others[:5])}." if others else " It is empty."
        raise DataError(f"{name}: no data file in this directory.{found} {EXPECTED}")
    if chosen is None:  # no card: files named for the side if there are any, else those named for none
        sides: dict[Path, str | None] = {}
        for path in files:
            place = path.relative_to(folder).as_posix().lower()
            matches = SPLIT.findall(place)
            if kind_of(path) == ".txt":  # documents have names of their own, so only a whole name counts
                parts = (*place.split("/")[:-1], _stem(path))
                matches = [one for one in parts if SPLIT.fullmatch(one)]
            sides[path] = next(
                (key for key, names in SPLIT_NAMES.items() if matches and matches[-1] in names), None
            )
        wanted = side if side in sides.values() else None
        chosen = [path for path in files if sides[path] == wanted]
    if not chosen:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in files[:5])
        raise DataError(f"{name}: no file for {side}; its files are of other splits: {listed}. Name one.")
    kept = set(chosen)
    return chosen, [path.relative_to(folder) for path in files if path not in kept]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a directory except hidden ones. Links are followed; each directory is visited once.

    Run directories below it are what finetooth has written, and are left out. In a directory saved by
    `datasets`, only the .arrow files listed in its state.json count. Raises DataError for a directory that
    cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be opened: {error.strerror}.") from None

    visited: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and real not in visited and not is_run(Path(place) / name)
        ]
        if real not in visited:
            saved = _saved_files(Path(place) / STATE) if STATE in names else None
            kept = (name for name in names if saved is None or name in saved or not name.endswith(".arrow"))
            yield from (Path(place) / name for name in kept if not name.startswith("."))
        visited.add(real)


def is_run(folder: Path) -> bool:
    """Whether finetooth has written this directory: it has a manifest, or the files of an older version."""
    return has_manifest(folder) or any(
        all((folder / name).is_file() for name in names)
        for names in (("config.yaml", "environment.json"), ("data/check.json", "data/findings.jsonl"))
    )


def _is_in_run(path: Path, pattern: str) -> bool:
    """Whether a match of a glob is in a run directory that only the `**` of the pattern has led to."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return False
    below = len(path.parts) - 1 - parts.index("**")
    return any(is_run(folder) for folder in list(path.parents)[: max(below, 0)])


def _saved_files(state: Path) -> set[str] | None:
    """The files of a data set saved by `datasets`, from its state.json; None if that lists none."""
    try:
        values = json.loads(state.read_text(encoding="utf-8"))
        files = {str(entry["filename"]) for entry in values["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    missing = next((name for name in sorted(files) if not (state.parent / name).exists()), None)
    if missing:
        raise DataError(f"{state}: lists {missing}, which does not exist. Save the data set again.")
    if values.get("_indices_data_files"):
        raise DataError(f"{state}: rows are selected by indices. Save it again after flatten_indices().")
    return files


def _configured(  # long: one card, top to bottom
    folder: Path, files: Sequence[Path], side: str, part: str | None, name: str
) -> list[Path] | None:
    """The side's files according to the card's `configs`; None if the card does not say.

    part: a configuration, a split, or both with a slash between. A split given by name is read for any side.
    """
    try:
        front_matter = CARD.match((folder / "README.md").read_text(encoding="utf-8"))
        card = yaml.safe_load(front_matter[1]) if front_matter else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    items = card.get("configs") if isinstance(card, dict) else None
    entries = items if isinstance(items, list) else []
    configs = [entry for entry in entries if isinstance(entry, dict) and entry.get("data_files")]
    if not configs:
        return None
    names = [str(config.get("config_name", "default")) for config in configs]
    wanted, _, split = (part or "").partition("/")
    if wanted not in names:
        marked = [key for key, config in zip(names, configs, strict=True) if config.get("default")]
        defaults = names if len(names) == 1 else [key for key in (*marked, "default") if key in names]
        wanted, split = next(iter(defaults), ""), part or ""
    if not wanted:
        if part is not None:
            return None
        listed = ", ".join(names[:10])
        how = f"Name one: {name}/{names[0]}" if is_hub_id(name) else "Name the files of one"
        raise DataError(f"{name}: has several configurations: {listed}. {how}.")
    splits: dict[str, list[str]] = {}  # globs; files without a split are for training
    data_files = configs[names.index(wanted)]["data_files"]
    for item in data_files if isinstance(data_files, list) else [data_files]:
        entry = item if isinstance(item, dict) else {"path": item}
        paths = entry.get("path")
        globs = splits.setdefault(str(entry.get("split", "train")), [])
        globs += [str(path) for path in (paths if isinstance(paths, list) else [paths]) if path]
    if split and split not in splits:
        return None
    read = [key for key in splits if key == split or (not split and key in SPLIT_NAMES[side])]
    patterns = [one for key in read for one in splits[key]]
    if not patterns and is_hub_id(name):
        listed = ", ".join(splits)
        raise DataError(f"{name}: no split for {side}. Name one of {listed}: {name}/{next(iter(splits))}.")
    found = (glob.glob(one, root_dir=folder, recursive=True) for one in patterns)  # noqa: PTH207 (as above)
    matched = {folder / item for items in found for item in items}
    return [path for path in files if path in matched]
