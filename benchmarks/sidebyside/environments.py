"""Each peer's own virtual environment, made once with pinned versions and used again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "peers"
DEFAULT = Path.home() / ".cache" / "finetooth-bench"


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of the environment `name`, which is made when it is missing or its pins have changed.

    torch goes in first and alone, so that pip's own settings decide its build (a CPU wheel, where there is
    one), and pins it for everything that follows. Raises CalledProcessError when pip fails.
    """
    pins = PEERS / f"{name}.txt"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    room, stamp = folder / name, folder / name / "pins.sha256"
    python = room / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"making {room} (once; some minutes)", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(room)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    torch = [line for line in pins.read_text().splitlines() if line.startswith("torch==")]
    if torch:
        subprocess.run([*pip, *torch], check=True)
    subprocess.run([*pip, "-r", str(pins)], check=True)
    stamp.write_text(wanted)
    return python
