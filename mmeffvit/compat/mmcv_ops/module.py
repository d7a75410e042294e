"""The module that stands in for ``mmcv._ext``."""

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

NAME = "mmcv._ext"


class MissingOperatorError(NotImplementedError):
    """An operator of mmcv was called that neither the compiled extension nor a stand-in provides."""


def _missing(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise MissingOperatorError(
            f"mmcv's operator '{name}' needs mmcv's compiled extension, which is not installed, and "
            "mmeffvit has no stand-in for it. Compile mmcv (about 40 minutes; torch <= 2.14, a C++ "
            "compiler, and torch and setuptools installed first): "
            "pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall onedl-mmcv"
        )

    call.__name__ = name
    return call


class StandIns(types.ModuleType):
    """Operators by name; an unknown name gives a function that raises when it is called.

    mmcv asks for every operator when ``mmcv.ops`` is imported, so the error has to wait for the call.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return _missing(name)


def find_compiled() -> importlib.machinery.ModuleSpec | None:
    """Where mmcv's compiled operators are, without importing mmcv; None if they are missing."""
    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is None or not mmcv.submodule_search_locations:
        return None
    return importlib.machinery.PathFinder.find_spec(NAME, mmcv.submodule_search_locations)


def build() -> StandIns:
    """The module with all stand-ins."""
    from mmeffvit.compat.mmcv_ops import focal, nms, roi

    module = StandIns(NAME, __doc__)
    module.__spec__ = importlib.machinery.ModuleSpec(NAME, loader=None, origin="mmeffvit")
    for family in (nms, roi, focal):
        for name, function in vars(family).items():
            if isinstance(function, types.FunctionType) and not name.startswith("_"):
                if function.__module__ == family.__name__:
                    setattr(module, name, function)
    return module


def install() -> None:
    """Register the stand-ins, unless mmcv is missing or has its compiled operators."""
    if NAME in sys.modules or importlib.util.find_spec("mmcv") is None:
        return
    if find_compiled() is None:
        sys.modules[NAME] = build()
