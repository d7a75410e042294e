"""Making the files of a data set, several at once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def make_all(
    make: Callable[[int], Any],
    number: int,
    workers: int | None,
    log: Callable[[str], None],
    progress: str,
) -> list:
    """Call `make(index)` for each index below `number`, several at once, and tell progress.

    Args:
        make: What it does must depend on its index alone, hence not on who calls it or when.
        number: Calls to make.
        workers: Threads; all processors by default.
        log: Called with messages, five in all.
        progress: The message, with ``{done}`` and ``{number}`` to fill in.

    Returns:
        What the calls returned, in the order of the indices.
    """
    results = []
    step = max(1, number // 5)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for result in pool.map(make, range(number)):
            results.append(result)
            if len(results) % step == 0 or len(results) == number:
                log(progress.format(done=len(results), number=number))
    return results
