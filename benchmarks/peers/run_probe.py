"""The machine's own speed: fp32 products of two square matrices, in GFLOP/s. One turn takes a few of them."""

from __future__ import annotations

import time

import torch
from protocol import Channel, Facts, read_spec, serve

SIZE, TIMES = 2048, 8


def main() -> None:
    """Probe until told to stop."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    out = torch.empty(SIZE, SIZE)
    clock = time.process_time if spec.get("clock") == "processor" else time.perf_counter

    def turn(_: Facts) -> Facts:
        rates = []
        for _ in range(TIMES):
            begun = clock()
            torch.mm(left, right, out=out)
            rates.append(2 * SIZE**3 / (clock() - begun) / 1e9)
        return {"rates": rates[1:]}

    serve(Channel(), turn, "torch")


if __name__ == "__main__":
    main()
