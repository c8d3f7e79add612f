"""The command line in the process of the tests: importing torch takes longer than most commands."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from finetooth.cli.app import invoke


def finetooth(folder: Path, *arguments: object, given: str | bytes = "") -> subprocess.CompletedProcess[str]:
    """What `finetooth ARGUMENTS` does in this folder, with `given` in a pipe on its standard input."""
    ours, theirs = os.pipe()
    os.write(theirs, given if isinstance(given, bytes) else given.encode())
    os.close(theirs)
    words = [*map(str, arguments)]
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    with os.fdopen(ours) as pipe, redirect_stdout(out), redirect_stderr(err), chdir(folder):
        sys.stdin = pipe
        try:
            code = invoke(words)
        finally:
            sys.stdin = before
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
