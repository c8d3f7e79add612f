"""Which runs are iterations of one task, what each was made from, and in which order they were made.

Runs belong together where one was made from the other, or where their validation or sealed rows share one.
Sealed rows are told by the ledger's digests; they are not read. Nothing here loads a model or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from finetooth.analysis.annotations import FOLDER as ERRORS
from finetooth.config.task import Task
from finetooth.data.version import Versions
from finetooth.errors import FinetoothError
from finetooth.evaluation import ledger
from finetooth.rundir import has_manifest, read_json
from finetooth.runs import workspace
from finetooth.runs.sized_runs import FOLDER, is_curve

# Of a run whose next rows were chosen: it names the arms that followed.
TARGETING = f"{ERRORS}/targeting.json"
RANDOM = "-random"  # the end of the name of a random arm
CONTINUES, KEEPS, MADE = "continues", "keeps the split of", "made from"
# What reading a damaged run may raise.
UNREADABLE = (FinetoothError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(slots=True)
class Run:
    """A run as it was found. task: None where config.yaml is missing or cannot be read.

    time: seconds since 1970. parent: the directory of the run that it was made from, if that is here; asked:
    what the run calls it, also where it is not. relation: CONTINUES, KEEPS or MADE. problem: why it cannot be
    read. arm_of: the run beside which a random arm was trained; the run itself where that is not known.
    """

    path: Path
    task: Task | None = None
    time: float = 0.0
    asked: str = ""
    relation: str = ""
    parent: Path | None = None
    problem: str = ""
    arm_of: Path | None = None
    rows: set[str] = field(default_factory=set)


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """The runs in these folders, and those elsewhere that they were made from, parents first, then by time.

    A damaged run is among them, with its problem.
    """
    versions = Versions()
    waiting = [path for folder in folders for path in _runs_in(folder)]
    found: dict[Path, Run] = {}
    while waiting:
        path = waiting.pop(0)
        if path.resolve() in found:
            continue
        run = found[path.resolve()] = _read(path, versions)
        run.parent = _parent(run, versions)
        waiting += [] if run.parent is None else [run.parent]
    runs = [*found.values()]
    for run in runs:
        run.parent = None if run.parent is None else found[run.parent.resolve()].path
    _mark_arms(runs)
    return _ordered(runs)


def parent_of(path: Path) -> Path | None:
    """The run that the run in `path` was made from; None for a first one, and where that is not there.

    It is the one that the run names: in environment.json for other weights of a run, else as start or
    data.split_from. A folder that was moved keeps its names, so a run of that name beside `path` is taken
    too, if it has a validation row or a sealed row in common.
    """
    versions = Versions()
    return _parent(_read(path, versions), versions)


def _parent(run: Run, versions: Versions) -> Path | None:
    if not run.asked:
        return None
    named, here = Path(run.asked), run.path.resolve()
    places = {one.resolve(): one for one in (named, here.parent / named.name) if _is_run(one)}
    places.pop(here, None)
    if [*places] == [named.resolve()]:
        return named  # may have other rows: a run that continues it brings its own
    kin = (one for one in places.values() if _read(one, versions).rows & run.rows)
    return next(kin, named if named.resolve() in places else None)


def groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by task, each group in the order of `runs`; a run without relatives is a group of its own."""
    root = {run.path: run.path for run in runs}

    def top(path: Path) -> Path:
        while root[path] != path:
            root[path] = root[root[path]]
            path = root[path]
        return path

    first: dict[str, Path] = {}
    for run in runs:
        for other in (run.parent, run.arm_of):
            if other in root:
                root[top(run.path)] = top(other)
        for row in run.rows:
            root[top(run.path)] = top(first.setdefault(row, run.path))
    together: dict[Path, list[Run]] = {}
    for run in runs:
        together.setdefault(top(run.path), []).append(run)
    return list(together.values())


def _runs_in(folder: Path) -> Iterator[Path]:
    """Run directories in the folder, also those that stopped before their config.yaml was written.

    The folder of a curve is none, and its trainings are no iterations.
    """
    if not folder.is_dir() or in_curve(folder):
        return
    yield from (path for path in sorted(folder.iterdir()) if _is_run(path))


def in_curve(path: Path) -> bool:
    """Whether the path is what a curve keeps its trainings in, or one of them."""
    path = path.resolve()
    return any(one.name == FOLDER and is_curve(one.parent) for one in (path, path.parent))


def _is_run(path: Path) -> bool:
    begun = (path / "data" / "split.json").is_file() and has_manifest(path) and not is_curve(path)
    return begun or (path / workspace.CONFIG).is_file()


def _read(path: Path, versions: Versions) -> Run:
    """The run, as far as it can be read; the rows first, by which a damaged one finds its relatives."""
    run = Run(path, time=_mtime(path))
    for part in (partial(_read_validation, versions=versions), _read_ledger, _read_task):
        try:
            part(run)
        except UNREADABLE as error:
            run.problem = run.problem or reason(error)
    return run


def _read_validation(run: Run, versions: Versions) -> None:
    file = run.path / "data" / "validation.jsonl"
    run.rows |= {digest.hex() for digest in versions.digests(file)} if file.is_file() else set()


def _read_ledger(run: Run) -> None:
    sealed = ledger.sealed_set(run.path)
    run.rows |= {f"sealed {content}" for content in sealed.contents} if sealed else set()
    run.time = min([run.time, *_ledger_time(run.path)])


def _read_task(run: Run) -> None:
    if not (run.path / workspace.CONFIG).is_file():
        run.problem = "It stopped before its config.yaml was written; the command that began it goes on."
        return
    run.task = workspace.load_config(run.path)
    origin = run.path / "environment.json"
    made_from = read_json(origin).get("origin") if origin.is_file() else None
    named = ((MADE, made_from), (CONTINUES, run.task.start), (KEEPS, run.task.data.split_from))
    run.relation, asked = next((one for one in named if one[1] is not None), ("", ""))
    run.asked = str(asked)


def reason(error: Exception) -> str:
    """What is wrong, in words on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, FinetoothError) else f"{type(error).__name__}: {text}"


def _mtime(path: Path) -> float:
    """When the run's first files were written; a copy of a run has younger ones."""
    files = (path / "data" / "split.json", path / workspace.CONFIG, path)
    return min(file.stat().st_mtime for file in files if file.exists())


def _ledger_time(path: Path) -> Iterator[float]:
    """When the split was sealed, by the ledger, which copying does not change."""
    if (time := ledger.began(path)) is not None:
        yield datetime.fromisoformat(time).timestamp()


def time_words(seconds: float) -> str:
    """Seconds since 1970 in ISO 8601 and UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _mark_arms(runs: Sequence[Run]) -> None:
    """Mark random arms: named so by the run beside which they were trained, or by the end of their own name.

    A name is looked up in the folder of the run itself: other tasks have runs of the same names.
    """
    by_path = {run.path.resolve(): run for run in runs}
    for run in runs:
        named = _random_arm(run.path)
        places = () if named is None else (named.resolve(), run.path.resolve().with_name(named.name))
        arm = next((by_path[place] for place in places if place in by_path), run)
        if arm is not run:
            arm.arm_of = run.path
    for run in runs:
        if run.arm_of is not None or not run.path.name.endswith(RANDOM):
            continue
        same = by_path.get(run.path.resolve().with_name(run.path.name.removesuffix(RANDOM)))
        siblings = [one for one in runs if one is not run and run.parent and one.parent == run.parent]
        run.arm_of = (same or next(iter(siblings), run)).path
    for run in runs:
        if run.arm_of is not None and by_path[run.arm_of.resolve()].arm_of is not None:
            run.arm_of = run.path  # beside another arm: it stands alone


def _random_arm(path: Path) -> Path | None:
    """The random arm that a run was compared with, as the run names it; None without one."""
    file = path / TARGETING
    with suppress(*UNREADABLE):
        return Path(read_json(file)["random"]) if file.is_file() else None
    return None


def _ordered(runs: Sequence[Run]) -> list[Run]:
    """Parents before what was made from them, then by time; a random arm right after its iteration."""
    by_path = {run.path: run for run in runs}
    ordered: dict[Path, Run] = {}

    def add(run: Run) -> None:
        chain = [run]  # the run and those that come before it, which are not listed yet
        while (before := chain[-1].parent) in by_path and before not in ordered:
            if by_path[before] in chain:
                break
            chain.append(by_path[before])
        for one in reversed(chain):
            ordered.setdefault(one.path, one)

    runs = sorted(runs, key=lambda run: (run.time, run.path.name))
    arms = {run.path: run for run in runs if run.arm_of not in (None, run.path)}
    for run in runs:
        if run.path not in arms:
            add(run)
    listed: list[Run] = []
    for run in ordered.values():
        if run.path not in arms:
            listed += [run, *(arm for arm in arms.values() if arm.arm_of == run.path)]
    return sorted(listed, key=lambda run: bool(run.problem))
