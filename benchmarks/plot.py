"""Draw what speed.py and scaling.py have measured: python benchmarks/plot.py RESULTS PICTURE.png"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from sidebyside import environments  # noqa: E402


def main() -> None:
    """Run peers/draw.py in an environment that has matplotlib, which finetooth itself does not need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="the folder that speed.py and scaling.py wrote")
    parser.add_argument("picture", type=Path, help="a .png or .svg file")
    parser.add_argument("--envs", type=Path, default=environments.DEFAULT, help="for the environment")
    given = parser.parse_args()
    python = environments.python_of("plot", given.envs)
    draw = environments.PEERS / "draw.py"
    subprocess.run([str(python), str(draw), str(given.results), str(given.picture)], check=True)


if __name__ == "__main__":
    main()
