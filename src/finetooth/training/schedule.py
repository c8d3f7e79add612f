"""The learning rate over the steps, as a pure function."""

from __future__ import annotations

import math

from finetooth.errors import ConfigError


def learning_rate_multiplier(step: int, total: int, warmup: float, kind: str) -> float:
    """What the peak learning rate is multiplied by at `step` (from 0) of `total`; in (0, 1].

    It rises linearly over the first `warmup` share of the steps, then falls towards 0 by `kind`: cosine
    (Loshchilov & Hutter 2017, without restarts), linear, or constant. The last step still learns: 0 would
    come one step after it.
    """
    warm = round(warmup * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, total - warm)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ConfigError(f"train.schedule: found {kind!r}, expected cosine, linear or constant.")
