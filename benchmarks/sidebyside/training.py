"""Cases (a) and (b): training steps of all systems, interleaved step by step."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sidebyside.children import Child, ChildDied, Quiet
from sidebyside.environments import python_of
from sidebyside.floor import Work, step_gflop
from sidebyside.models import EPSILON, SHAPE
from sidebyside.rows import Tokens, classification_rows, instruction_rows

ROWS_A_STEP, RANK, ALPHA, RATE = 16, 16, 32, 1e-4
PACKED_TO = 1024  # tokens of a packed sequence: TRL's default
SAME_LOSS = 1e-3
SAME_GRADIENT = 1e-4  # of its norm


@dataclass(frozen=True, slots=True)
class System:
    """One way to take a step. script, environment: what runs it and where. options: its own settings."""

    name: str
    script: str
    environment: str
    options: Mapping[str, Any] = field(default_factory=dict)


# The likely best of each family first: they are then measured in the same rounds.
SYSTEMS = [
    System("finetooth", "run_finetooth.py", ""),
    System("trl-1", "run_trainer.py", "hf", {"micro": 1}),
    System("trl-4-grouped", "run_trainer.py", "hf", {"micro": 4, "order": "group_by_length"}),
    System("trl-packed", "run_trainer.py", "hf", {"micro": 1, "packing": PACKED_TO}),
    System("litgpt-1", "run_litgpt.py", "litgpt", {"micro": 1}),
    System("trainer-1", "run_trainer.py", "hf", {"micro": 1}),
    System("torchtune-1", "run_torchtune.py", "torchtune", {"micro": 1}),
    System("trl-4", "run_trainer.py", "hf", {"micro": 4}),
    System("litgpt-4", "run_litgpt.py", "litgpt", {"micro": 4}),
    System("trainer-4", "run_trainer.py", "hf", {"micro": 4}),
    System("torchtune-4", "run_torchtune.py", "torchtune", {"micro": 4}),
    System("trl-16", "run_trainer.py", "hf", {"micro": 16}),
]


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """Rows, what of the model is trained, and what the children are to do with them.

    more: what the children are told beside that. alike: every step of every system must have the same
    gradient, or nothing is measured.
    """

    title: str
    rows: Sequence[Tokens]
    adapter: str
    task: str = "train"
    more: Mapping[str, Any] = field(default_factory=dict)
    alike: bool = False


def training_cases() -> dict[str, TrainingCase]:
    """The cases by name."""
    vocabulary = SHAPE["vocab_size"]
    instructions = instruction_rows(ROWS_A_STEP, vocabulary, seed=15)
    labelled = classification_rows(ROWS_A_STEP, vocabulary)
    return {
        "a-lora": TrainingCase("instruction rows, LoRA", instructions, "lora"),
        "a-full": TrainingCase("instruction rows, every weight", instructions, "none"),
        "b-lora": TrainingCase("400-token system prompt, LoRA", labelled, "lora"),
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all cases of a run.

    quiet: keeps other work away while something is measured. at_once: peers in memory together. clock: wall,
    or processor: the time that a process computed, which other work on the machine changes less. With more
    than one thread it counts the time of all.
    """

    model: Path
    room: Path
    environments: Path
    threads: int
    steps: int
    warmup: int
    quiet: Quiet = field(default_factory=lambda: Quiet(None))
    at_once: int = 4
    clock: str = "wall"
    shape: Mapping[str, int] = field(default_factory=lambda: SHAPE)

    def child(self, system: System, spec: Mapping[str, Any]) -> Child:
        """Start a system's process; raises CalledProcessError when its environment cannot be made."""
        python = (
            python_of(system.environment, self.environments) if system.environment else Path(sys.executable)
        )
        whole = {
            "system": system.name,
            "model": str(self.model),
            "shape": {**self.shape, "rms_norm_eps": EPSILON},
            "threads": self.threads,
            "clock": self.clock,
            **spec,
            **system.options,
        }
        return Child(system.name, python, system.script, whole, self.room)

    def probe(self) -> Child:
        """The child that measures the machine."""
        return self.child(System("probe", "run_probe.py", ""), {})


def run_training(case: TrainingCase, systems: Sequence[System], setting: Setting) -> dict[str, Any]:
    """All timings, losses and peaks of a case. A system that dies is reported with its error.

    Waiting children keep their memory, so at most `at_once` peers are loaded together; finetooth runs beside
    each such group, and a peer's `ours` are finetooth's seconds in its rounds.
    """
    spec = told(case, setting)
    ours, peers = systems[0], systems[1:]
    found: dict[str, dict[str, Any]] = {}
    rates: list[float] = []
    for first in range(0, max(1, len(peers)), setting.at_once):
        group = run_group([ours, *peers[first : first + setting.at_once]], spec, setting, rates, case.alike)
        mine = group.pop(ours.name)
        for other in group.values():
            other["ours"] = mine["seconds"]
        total = found.setdefault(ours.name, mine | {"seconds": []})
        total["seconds"] = total["seconds"] + mine["seconds"]
        total["peak"] = max(total["peak"], mine["peak"])
        found |= group
    work = Work.of(case.rows)
    return {
        "title": case.title,
        "work": asdict(work),
        "gflop": step_gflop(work, setting.shape, case.adapter, RANK),
        "rates": rates,
        "rate": statistics.median(rates),
        "systems": found,
    }


def told(case: TrainingCase, setting: Setting) -> dict[str, Any]:
    """What every child of a case is told; its rows are written where the children read them."""
    path = setting.room / "rows.json"
    path.write_text(json.dumps([row.as_json() for row in case.rows]), encoding="utf-8")
    spec = {"task": case.task, "rows": str(path), "adapter": case.adapter}
    return spec | {"rank": RANK, "alpha": ALPHA, "rate": RATE, **case.more}


def run_group(
    systems: Sequence[System],
    spec: Mapping[str, Any],
    setting: Setting,
    rates: list[float],
    alike: bool = False,
) -> dict[str, dict[str, Any]]:
    """Warm-up and timed rounds of systems that are loaded together; each round begins with another one.

    alike: raise ValueError after the first round in which a system has another gradient than finetooth.

    In a round each system takes two steps and the second is timed: some kernels page out what a process that
    sleeps for a minute has mapped, weights among it, which no training that runs on would see. By the
    processor's clock, which does not run while pages are awaited, it takes one.
    """
    found: dict[str, dict[str, Any]] = {}
    children = start(systems, spec, setting, found)
    probe = setting.probe()
    probe.ready()
    for at in range(setting.warmup + setting.steps):
        with setting.quiet:
            rates += probe.turn()["rates"]
            for child in [*children[at % len(children) :], *children[: at % len(children)]]:
                if setting.clock == "wall":
                    take(child, found[child.name], children, keep=False)  # wakes: memory may be paged out
                if child in children:
                    take(child, found[child.name], children, keep=at >= setting.warmup)
        if alike:
            require_alike(found)
        print(f"  round {at + 1} of {setting.warmup + setting.steps}", file=sys.stderr, flush=True)
    setting.quiet.release()
    for child in children:
        found[child.name]["peak"] = child.stop()
    probe.stop()
    return found


def start(
    systems: Sequence[System], spec: Mapping[str, Any], setting: Setting, found: dict[str, dict[str, Any]]
) -> list[Child]:
    """The children that came up; the errors of the others are in `found`."""
    children = []
    for system in systems:
        found[system.name] = {"seconds": [], "losses": []}
        child = setting.child(system, spec)
        try:
            child.ready()
            found[system.name]["versions"] = child.versions
            children.append(child)
        except ChildDied as error:
            found[system.name]["error"] = str(error)
            print(error, file=sys.stderr)
    return children


def take(child: Child, found: dict[str, Any], children: list[Child], keep: bool) -> None:
    """One step of one system. Warm-up steps keep their loss but not their time."""
    try:
        done = child.turn()
    except ChildDied as error:
        found["error"] = str(error)
        children.remove(child)
        print(error, file=sys.stderr)
        return
    found["losses"].append(done.pop("loss"))
    seconds = done.pop("seconds")
    if keep:
        found["seconds"].append(seconds)
    found.setdefault("norms", []).append(done.pop("grad_norm", None))
    found.update(done)


def same_loss(systems: Mapping[str, Mapping[str, Any]], allowed: float = SAME_LOSS) -> dict[str, float]:
    """The systems whose first loss differs from finetooth's by more than `allowed`, and by how much.

    A system that is in here trains something else, and its times say nothing.
    """
    first = {name: system["losses"][0] for name, system in systems.items() if system["losses"]}
    return {
        name: abs(loss - first["finetooth"])
        for name, loss in first.items()
        if not abs(loss - first["finetooth"]) <= allowed
    }


def apart(systems: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """The largest differences to finetooth's first step in all steps of all systems: of the loss, and of the
    gradient's norm in parts of it.
    """
    first = systems["finetooth"]
    loss, norm = first["losses"][0], first["norms"][0]
    return (
        max(abs(other - loss) for found in systems.values() for other in found["losses"]),
        max(abs(other / norm - 1) for found in systems.values() for other in found.get("norms", [])),
    )


def require_alike(systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError, with the numbers, when a system computes another loss or gradient."""
    loss, norm = apart(systems)
    if not (loss <= SAME_LOSS and norm <= SAME_GRADIENT):
        shown = {name: (found["losses"], found.get("norms")) for name, found in systems.items()}
        raise ValueError(f"The systems do not compute the same, so nothing is measured: {shown}")
