"""Data sets whose files are made when they are first used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmengine.logging import print_log

from mmeffvit.registry import DATA_MAKERS


class MadeOnFirstUse:
    """Stands before a data set of mmengine, and writes its files before they are first listed.

    Args:
        *args: Of the data set.
        make: What the data is, such as ``dict(num_train=800, num_val=100, seed=0)``: arguments of a
            function in `mmeffvit.registry.DATA_MAKERS`. Data sets that share a `data_root` must
            give the same. True means its defaults; None and False read what is there and write
            nothing.
        lazy_init: As in mmengine's `BaseDataset`.
        **kwargs: Of the data set.
    """

    #: ``type``, the name of the function, unless `make` has another, and arguments it always gets
    maker: ClassVar[dict[str, Any]]

    def __init__(
        self, *args, make: Mapping | bool | None = None, lazy_init: bool = False, **kwargs
    ):
        super().__init__(*args, lazy_init=True, **kwargs)
        self._make = make
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Write the data if need be, and list it."""
        wanted = self._make is not None and self._make is not False
        if wanted and not self._fully_initialized:
            arguments = {**self.maker, **({} if self._make is True else self._make)}
            make = DATA_MAKERS.get(arguments.pop("type"))
            make(self.data_root, **arguments, log=lambda text: print_log(text, logger="current"))
        super().full_init()
