"""Words for errors that people read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, allowed: Iterable[str], most: int = 1) -> str:
    """``; did you mean 'tiny'?`` where an allowed name is close to the one given, else ''.

    Args:
        given: What somebody wrote.
        allowed: What there is.
        most: How many suggestions at most.
    """
    close = difflib.get_close_matches(given, list(allowed), n=most)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
