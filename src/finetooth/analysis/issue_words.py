"""An issue's state as one readable line."""

from __future__ import annotations


def line(
    title: str,
    state: str,
    was: int | None,
    now: int,
    rows: int,
    affected: int,
    adjusted: float | None,
    since: int | None,
    fixed_at: int | None,
    unpaired: int,
) -> str:
    """`billing taken for refund: 38 -> 11 of 210 rows, fixed (p < 0.001)`.

    was, now, affected: rows affected before, now, and before or now, of `rows`. adjusted: the p value of a
    proven change. since, fixed_at: iterations counted from 0, of `was`, where that is not the last one, and
    of the last proven fall. unpaired: affected rows that the iteration before did not answer.
    """
    counts = f"{now:,} of {rows:,} rows" if was is None else f"{was:,} -> {now:,} of {rows:,} rows"
    if since is not None:
        counts += f" since iteration {since + 1}"
    words = f"{title}: {counts}{_state(state, was, now, affected, adjusted, fixed_at)}"
    return f"{words}; {unpaired:,} more in rows that were not asked before" if unpaired else words


def _state(
    state: str, was: int | None, now: int, affected: int, adjusted: float | None, fixed_at: int | None
) -> str:
    if was is None:
        return ""
    earlier = "" if fixed_at is None else f", after it was fixed in iteration {fixed_at + 1}"
    if state == "present":
        return ", only in rows that were not asked before"
    if adjusted is not None:
        earlier = earlier if state == "regressed" else ""
        return f", {state}{earlier} ({_p(adjusted)})"
    if state == "new":
        return f", new (n={affected}, not proven)"
    if state == "fixed":
        return f", fixed since iteration {(fixed_at or 0) + 1}"
    if state == "improved":
        return f", improved (n={affected}, not proven)" if affected else ", none again (not proven)"
    if state == "flickering":
        return ", flickering (rows come and go, no change proven)"
    more = "no change" if now == was else "fewer, not proven" if now < was else f"more, not proven{earlier}"
    return f", persisting ({more})"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
