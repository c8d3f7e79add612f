"""The whole recipe, from a folder of text files to a packaged model:

    python recipes/milktooth/build.py CORPUS

Every stage is a command of its own, printed before it runs, and skipped when its result is in the staging
folder: stopped with Ctrl-C, the same line goes on. --max-steps shortens both trainings, to try it out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import join
from statistics import mean

from package import EMBEDDED

from finetooth.rundir import read_json, read_jsonl

HERE = Path(__file__).resolve().parent
STAGING = HERE.parents[1] / ".staging" / "milktooth"
FINETOOTH = [sys.executable, "-m", "finetooth"]


def script(name: str, *arguments: object) -> list[str]:
    """A script of this folder with its arguments."""
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def stages(corpus: Path, staging: Path, flags: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """The stages but the last, one by one: the file that shows that one is done, and its command."""
    pretrained, tuned = staging / "pretrain", staging / "instruct"
    rows, chats = staging / "train.jsonl", staging / "instructions.jsonl"
    measured, bar = staging / "measured.json", staging / "kneser_ney.json"
    first = ["--model", str(staging / "model"), "--data.train", str(rows)]
    first += ["--data.validation", str(staging / "validation.jsonl")]
    second = ["--model", str(pretrained / "train" / "model"), "--data.train", str(chats)]
    yield staging / "prepared.json", script("prepare.py", "--corpus", corpus, "--out", staging)
    yield pretrained / "train" / "result.json", train("pretrain", pretrained, [*first, *flags])
    yield chats, script("make_instructions.py", "--text", rows, "--out", chats)
    yield tuned / "train" / "result.json", train("instruct", tuned, [*second, *flags])
    heldout = sorted((staging / "heldout").glob("*.jsonl"))
    yield measured, script("measure.py", tuned / "train" / "model", *heldout, "--json", measured)
    yield bar, script("kneser_ney.py", staging, "--json", bar)


def train(name: str, out: Path, flags: list[str]) -> list[str]:
    """The command that trains one of the two tasks here."""
    return [*FINETOOTH, "train", str(HERE / f"{name}.yaml"), "--out", str(out), *flags]


def compute(staging: Path) -> str:
    """What the trainings took, as their logs say: a sentence for the model card."""
    told = []
    for name, what in (("pretrain", "pretraining"), ("instruct", "the chats")):
        log = read_jsonl(staging / name / "train" / "metrics.jsonl")
        lines = [line for line in log if "row_tokens" in line]
        steps = lines[-1]["step"]
        tokens, seconds = (steps * mean(line[key] for line in lines) for key in ("row_tokens", "seconds"))
        told.append(f"{steps:,} steps of {what} ({tokens / 1e6:.1f} M tokens, {seconds / 60:.0f} minutes)")
    cores = read_json(staging / "pretrain" / "environment.json")["machine"]["cores"]
    return f"{' and '.join(told)} on {cores} CPU cores, from a fresh initialisation."


def run(command: list[str]) -> None:
    """Run a stage; end with its exit code when it fails. Ctrl-C is the stage's: it saves, then ends."""
    print(f"$ {join(command)}", flush=True)
    stage = subprocess.Popen(command)
    while True:
        try:
            code = stage.wait()
            break
        except KeyboardInterrupt:  # subprocess.run would kill the stage a quarter of a second later
            continue
    if code:
        raise SystemExit(code)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder of NAME.txt.gz files")
    parser.add_argument("--staging", type=Path, default=STAGING, help="what the stages make")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="where the packaged model goes")
    parser.add_argument("--max-steps", type=int, help="of both trainings")
    options = parser.parse_args()
    flags = ["--train.max_steps", str(options.max_steps)] if options.max_steps else []
    for done, command in stages(options.corpus, options.staging, flags):
        if not done.is_file():
            run(command)
    measured, bar = (options.staging / f"{name}.json" for name in ("measured", "kneser_ney"))
    made = [options.staging / "instruct" / "train" / "model", "--measured", measured, "--bar", bar]
    run(script("package.py", *made, "--compute", compute(options.staging), "--out", options.out))


if __name__ == "__main__":
    main()
