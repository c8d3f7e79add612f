"""Where the public data sets are: FINETOOTH_DATA, or ../shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FINETOOTH_DATA") or ROOT.parent / "shared" / "data")
