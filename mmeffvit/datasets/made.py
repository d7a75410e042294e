"""Data sets whose files are made when they are first used."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.logging import print_log


def ensure_made(
    ensure: Callable[..., Any], root: str | os.PathLike, make: Mapping | bool | None, **fixed: Any
) -> None:
    """Write the files of a data set, unless they are there; progress goes to the current log.

    Args:
        ensure: Such as :func:`mmeffvit.datasets.ensure_digits`.
        root: Folder of the data set.
        make: Arguments of `ensure` that say what the data is. True means its defaults; None and
            False write nothing.
        **fixed: Arguments that the data set sets itself.
    """
    if make is None or make is False:
        return
    arguments = {} if make is True else make
    ensure(root, **fixed, **arguments, log=lambda text: print_log(text, logger="current"))
