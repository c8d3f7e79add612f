"""Which files a source names: a file, a glob, a directory, a data set of the hub, or a list of them.

A directory, and a data set of the hub, may hold the files of several splits. They are told by the data set's
card (the `configs` at the head of README.md), else by their names, as in `train.jsonl` or
`data/test-00000-of-00002.parquet`.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetooth.config.values import expand_path, hub_parts, is_hub_id
from finetooth.data.hub import dataset_directory
from finetooth.data.read.files import EXPECTED, kind_of
from finetooth.data.read.table import repeated
from finetooth.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
ANY_SPLIT = "|".join(name for names in SPLIT_NAMES.values() for name in names)
SPLIT = re.compile(rf"(?<![a-z0-9])({ANY_SPLIT})(?![a-z0-9])")
CARD = re.compile(r"---\n(.*?)\n---", re.DOTALL)
# What describes a directory of data and is none.
STATE = "state.json"
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", STATE}
ABOUT |= {f"{name}.txt" for name in ("readme", "license", "licence", "copying", "notice", "requirements")}
PART = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})(\.\D.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read. name: what it is called; document: a text file that is one document."""

    path: Path
    name: str
    weight: float = 1.0
    document: bool = False


def find_files(source: str | Path | Sequence[Any], side: str = "train") -> tuple[list[Source], list[str]]:
    """The files of a source, in order, and notes on what was left out.

    source: a path, glob, directory or hub id, or a list of those and of {path, weight}. side: train,
    validation or test: which files of a directory are meant. Raises DataError when there are none.
    """
    entries = [source] if isinstance(source, str | Path) else source
    found: list[tuple[Path, float, bool]] = []
    notes: list[str] = []
    for entry in entries:
        file: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {"path": entry}
        name, weight = str(file["path"]), float(file.get("weight", 1.0))
        chosen, folder, left_out = _files(name, side)
        found += [(path, weight, folder) for path in chosen]
        if left_out:
            listed = ", ".join(str(path) for path in left_out[:5])
            notes.append(f"{name}: {len(left_out)} files are not read for {side}: {listed}.")
        absent = _missing_parts(chosen) if len(chosen) > 1 or folder else []
        if absent:
            notes.append(f"{name}: {len(absent)} parts are not there: {', '.join(absent[:5])}.")
    paths = [path.absolute() for path, _, _ in found]
    twice = repeated(map(str, paths))
    if twice is not None:
        raise DataError(
            f"{twice}: named twice. To count its rows double: {{path: {Path(twice).name}, weight: 2}}."
        )
    texts = {path for path in paths if kind_of(path) == ".txt" and not SPLIT.fullmatch(_stem(path))}
    names = _names([path for path, _, _ in found])
    return [
        Source(path, name, weight, path.absolute() in texts and (folder or len(texts) > 1))
        for (path, weight, folder), name in zip(found, names, strict=True)
    ], notes


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]


def _missing_parts(paths: Sequence[Path]) -> list[str]:
    """Of files that count themselves, as in `train-00000-of-00002.parquet`, those that are not there."""
    numbers: dict[tuple[Path, str, str, str], set[int]] = {}
    for path in paths:
        match = PART.fullmatch(path.name)
        if match:
            start, number, total, end = match.groups()
            numbers.setdefault((path.parent, start, total, end), set()).add(int(number))
    return [
        f"{start}-{number:0{len(total)}d}-of-{total}{end}"
        for (_, start, total, end), there in numbers.items()
        for number in range(int(total))
        if len(there) < int(total) and number not in there
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    """The file names where they differ, else the paths below the directory that all share."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(shared).as_posix() for path in paths]


def _files(name: str, side: str) -> tuple[list[Path], bool, list[Path]]:
    """The files that a name stands for, whether it is a directory, and what was left out there."""
    path = expand_path(name)
    try:
        if path.is_dir():
            chosen, left_out = _in_directory(path, side, None, name)
            return chosen, True, left_out
        there = path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{name[:200]}: cannot be opened: {getattr(error, 'strerror', error)}.") from None
    if there:
        return [path], False, []
    if glob.has_magic(name):
        items = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        matched = sorted(map(Path, items))
        chosen = [item for item in matched if item.is_file() and kind_of(item)]
        if not chosen:
            what = f"only {', '.join(item.name for item in matched[:5])}" if matched else "nothing"
            raise DataError(f"{name}: matches {what}. {EXPECTED}")
        kept = set(chosen)
        return chosen, False, [item for item in matched if item not in kept]
    if is_hub_id(name):
        repository, revision, part = hub_parts(name)
        folder = dataset_directory(repository, revision)
        chosen, left_out = _in_directory(folder, side, part, name)
        return chosen, True, left_out
    near = sorted(item.name for item in path.parent.glob("*") if kind_of(item))
    others = f" In {path.parent} there are: {', '.join(near[:5])}." if near else ""
    raise DataError(f"{path}: no such file. {EXPECTED}{others}")


def _in_directory(folder: Path, side: str, part: str | None, name: str) -> tuple[list[Path], list[Path]]:
    """The files of a side in a directory, sorted, and the other files that could have been read.

    part: a configuration or split of the data set's card, or a folder in it.
    """
    every = sorted(path for path in _walk(folder) if kind_of(path) and path.name.lower() not in ABOUT)
    configured = _configured(folder, every, side, part, name)
    if configured is None and part:
        if not (folder / part).is_dir():
            raise DataError(f"{name}: the data set has neither a configuration nor a folder {part!r}.")
        folder = folder / part
        every = [path for path in every if path.is_relative_to(folder)]
    if not every:
        others = sorted(item.name for item in folder.iterdir())
        found = f" Found: {', '.join(others[:5])}." if others else " It is empty."
        raise DataError(f"{name}: no data file in this directory.{found} {EXPECTED}")
    chosen = _of_side(folder, every, side) if configured is None else configured
    if not chosen:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in every[:5])
        raise DataError(f"{name}: no file for {side}; its files are of other splits: {listed}. Name one.")
    kept = set(chosen)
    return chosen, [path.relative_to(folder) for path in every if path not in kept]


def _walk(folder: Path) -> Iterator[Path]:
    """What is in a directory and below it but hidden names; links are followed, each directory read once.

    Of a directory that `datasets` has saved only the files that its state.json lists. Raises DataError for a
    directory that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be opened: {error.strerror}.") from None

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and real not in seen]
        if real not in seen:
            saved = _saved(Path(place) / STATE) if STATE in names else None
            kept = (name for name in names if saved is None or name in saved or not name.endswith(".arrow"))
            yield from (Path(place) / name for name in kept if not name.startswith("."))
        seen.add(real)


def _saved(state: Path) -> set[str] | None:
    """The files of a data set that `datasets` has saved, by its state.json; None if that lists none."""
    try:
        values = json.loads(state.read_text(encoding="utf-8"))
        files = {str(entry["filename"]) for entry in values["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    missing = next((name for name in sorted(files) if not (state.parent / name).exists()), None)
    if missing:
        raise DataError(f"{state}: lists {missing}, which is not there. Save the data set again.")
    if values.get("_indices_data_files"):
        raise DataError(f"{state}: the rows are chosen by indices. Save it again after flatten_indices().")
    return files


def _of_side(folder: Path, files: Sequence[Path], side: str) -> list[Path]:
    """Files named for the side if there are any, else those named for none.

    Of a text file only whole names count, as in test/a.txt and test.txt: documents have names of their own.
    """
    sides: dict[Path, str | None] = {}
    for path in files:
        place = path.relative_to(folder).as_posix().lower()
        found = SPLIT.findall(place)
        if kind_of(path) == ".txt":
            names = (*place.split("/")[:-1], _stem(path))
            found = [name for name in names if SPLIT.fullmatch(name)]
        sides[path] = next((key for key, names in SPLIT_NAMES.items() if found and found[-1] in names), None)
    wanted = side if side in sides.values() else None
    return [path for path in files if sides[path] == wanted]


def _configured(
    folder: Path, files: Sequence[Path], side: str, part: str | None, name: str
) -> list[Path] | None:
    """The side's files by the card's `configs`; None when the card has none that says.

    part: a configuration, a split, or both with a slash between. A split that is named is read for any side.
    """
    configs = _configs(folder)
    if not configs:
        return None
    names = [str(config.get("config_name", "default")) for config in configs]
    wanted, _, split = (part or "").partition("/")
    if wanted not in names:
        marked = [key for key, config in zip(names, configs, strict=True) if config.get("default")]
        usual = names if len(names) == 1 else [key for key in (*marked, "default") if key in names]
        wanted, split = next(iter(usual), ""), part or ""
    if not wanted:
        if part is not None:
            return None
        listed = ", ".join(names[:10])
        how = f"Say which: {name}/{names[0]}" if is_hub_id(name) else "Name the files of one"
        raise DataError(f"{name}: has several configurations: {listed}. {how}.")
    splits = _splits(configs[names.index(wanted)].get("data_files"))
    if split and split not in splits:
        return None
    read = [key for key in splits if key == split or (not split and key in SPLIT_NAMES[side])]
    patterns = [one for key in read for one in splits[key]]
    if not patterns and is_hub_id(name):
        listed = ", ".join(splits)
        raise DataError(f"{name}: no split for {side}. Say which of {listed}: {name}/{next(iter(splits))}.")
    found = (glob.glob(one, root_dir=folder, recursive=True) for one in patterns)  # noqa: PTH207 (as above)
    matched = {folder / item for items in found for item in items}
    return [path for path in files if path in matched]


def _configs(folder: Path) -> list[dict[str, Any]]:
    """The configurations that name their files, in the head of the card; [] without one that can be read."""
    card = folder / "README.md"
    try:
        head = CARD.match(card.read_text(encoding="utf-8"))
        values = yaml.safe_load(head[1]) if head else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    configs = values.get("configs") if isinstance(values, dict) else None
    items = configs if isinstance(configs, list) else []
    return [item for item in items if isinstance(item, dict) and item.get("data_files")]


def _splits(data_files: Any) -> dict[str, list[str]]:
    """The globs of a configuration by split; files without a split are for training."""
    found: dict[str, list[str]] = {}
    for item in data_files if isinstance(data_files, list) else [data_files]:
        entry = item if isinstance(item, dict) else {"path": item}
        paths = entry.get("path")
        globs = found.setdefault(str(entry.get("split", "train")), [])
        globs += [str(path) for path in (paths if isinstance(paths, list) else [paths]) if path]
    return found
