"""What the machine is, in general words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# From the widest: what decides the rate of fp32 and bf16 matrix products.
UNITS = {
    "amx_bf16": "AMX (bf16)",
    "avx512_bf16": "AVX-512 with bf16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "asimd": "NEON",
}


def describe(threads: int) -> dict[str, object]:
    """Cores, threads used, memory in GiB, vector units, operating system, Python."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(pages / 2**30),
        "vector_units": vector_units(),
        "python": platform.python_version(),
    }


def vector_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The widest that the processor has, as far as Linux says."""
    if not cpuinfo.is_file():
        return "unknown"
    words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    return next((name for flag, name in UNITS.items() if flag in words), "none of the known")
