"""Data sets that toolboxes unpickle on their own, without asking mmengine, run nothing either.

These modules hold `pickle` or numpy under a name of their own, and get what reads data alone in its
place. Results that processes of one run hand to each other are left as they are.
"""

import io
import pickle
from importlib import import_module
from types import ModuleType
from typing import Any

from mmeffvit import files
from mmeffvit.compat.imports import when_imported


def guard_pickles() -> None:
    """Let the toolboxes' readers of pickles build data alone, now or once they are imported."""
    for name in _READERS:
        when_imported(name, guard)


def guard(module: ModuleType) -> None:
    """Replace what one of the readers unpickles with."""
    vars(module).update(_READERS[module.__name__])


class _StandIn:
    """What a module takes for another one: all of it, but for what is defined here."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)


class _DataPickle(_StandIn):
    @staticmethod
    def load(file: Any, **kwargs: Any) -> Any:
        if files.is_trusted(getattr(file, "name", None)):
            return pickle.load(file, **kwargs)
        return files.read_pickle(file, **kwargs)

    @staticmethod
    def loads(content: bytes, **kwargs: Any) -> Any:
        return files.read_pickle(io.BytesIO(content), **kwargs)


class _DataNumpy(_StandIn):
    @staticmethod
    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        return files.read_array(file)


#: module -> what takes the place of which of its names
_READERS = {
    "mmdet.datasets.openimages": {"np": _DataNumpy("numpy")},
    "mmpretrain.datasets.cifar": {"pickle": _DataPickle("pickle")},
    "mmpretrain.models.multimodal.ram.ram": {"pickle": _DataPickle("pickle")},
    "mmseg.utils.io": {"pickle": _DataPickle("pickle")},
}
