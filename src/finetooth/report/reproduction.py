"""How to make a run's result again: the command, and what has to be the same."""

from __future__ import annotations

from dataclasses import dataclass

from finetooth.evaluation import ledger
from finetooth.report.evidence import Evidence

SHOWN = 12  # digits of a digest


@dataclass(frozen=True, slots=True)
class Reproduction:
    """command: "" where the rows came from Python. same: what has to be the same, (name, value) each."""

    command: str
    same: list[tuple[str, str]]


def reproduction(evidence: Evidence, command: str) -> Reproduction:
    """command: the one that makes the run again, which the caller knows."""
    facts = evidence.environment
    model = facts.get("model") or {}
    same = [(name, str(version)) for name, version in facts.get("versions", {}).items()]
    same += [(key, str(evidence.config[key])) for key in ("seed",) if key in evidence.config]
    same += [("base model", str(model["digest"])[:SHOWN])] if "digest" in model else []
    same += [(key, str(model[key])) for key in ("device", "dtype", "attention") if key in model]
    same += [("CPU threads", str(facts["threads"]))] if "threads" in facts else []
    same += _inputs(evidence)
    return Reproduction(command, same)


def _inputs(evidence: Evidence) -> list[tuple[str, str]]:
    """The digests of the input files, by their names without folders, and of the sealed rows."""
    files = evidence.environment.get("inputs") or {}
    found = [
        (name.replace("\\", "/").rsplit("/", 1)[-1], str(one["sha256"])[:SHOWN])
        for name, one in files.items()
    ]
    sealed = ledger.sealed_digest(evidence.path)
    return [*found, *([("sealed rows", sealed[:SHOWN])] if sealed else [])]
