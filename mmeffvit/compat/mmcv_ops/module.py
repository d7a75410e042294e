"""The module that stands in for ``mmcv._ext``."""

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

from mmeffvit.compat import distribution

NAME = "mmcv._ext"

# Toolbox modules that import mmcv.ops and, without operators, either go on with holes or fail.
_USERS = (
    "mmcv.ops",
    "mmdet.apis",
    "mmdet.evaluation",
    "mmdet.models",
    "mmdet.structures",
    "mmpretrain.models",
    "mmseg.models",
    "mmseg.utils",
)


class MissingOperatorError(NotImplementedError):
    """The operator of mmcv that was called is neither compiled nor has a stand-in."""


class TooLateError(RuntimeError):
    """The stand-ins were asked for when a toolbox had already been imported without operators."""


class StandIns(types.ModuleType):
    """Operators by name; an unknown name gives a function that raises when it is called.

    mmcv asks for every operator while ``mmcv.ops`` is imported, so the error has to wait for the
    call.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return _missing(name)


def install() -> bool:
    """Register the stand-ins, unless mmcv is not installed or has its compiled operators.

    Returns:
        Whether the stand-ins are in use.

    Raises:
        TooLateError: A module that needs the operators has been imported without them.
        RuntimeError: torchvision is missing or does not work; says how to repair it.
    """
    if NAME in sys.modules:
        return isinstance(sys.modules[NAME], StandIns)
    if importlib.util.find_spec("mmcv") is None:
        return False
    if distribution.find_compiled_operators():
        from mmeffvit.compat.mmcv_ops import kernels

        kernels.offer()
        return False
    late = sorted(name for name in _USERS if name in sys.modules)
    if late:
        raise TooLateError(
            f"mmcv has no compiled operators, and {', '.join(late)} was imported before "
            "mmeffvit.compat.setup() could provide stand-ins; call it before the first import of a "
            "toolbox"
        )
    for problem in distribution.torch_problems():
        raise RuntimeError(
            f"the stand-ins for mmcv's operators need torchvision: {problem.what}; to repair it: "
            f"{problem.repair}"
        )
    sys.modules[NAME] = _build()
    return True


def _build() -> StandIns:
    """The module with all stand-ins: the public functions of the operator families."""
    from mmeffvit.compat.mmcv_ops import (
        deform_attn,
        deform_conv,
        focal,
        nms,
        psa,
        resample,
        roi,
        rotated,
    )

    module = StandIns(NAME, "Stand-ins of mmeffvit for mmcv's compiled operators.")
    # mmengine's report of the environment looks the module up with find_spec, which wants a spec.
    module.__spec__ = importlib.machinery.ModuleSpec(NAME, loader=None, origin="mmeffvit")
    module.get_compiler_version = module.get_compiling_cuda_version = _not_compiled
    for family in (nms, roi, rotated, focal, deform_conv, deform_attn, psa, resample):
        for name, function in vars(family).items():
            own = getattr(function, "__module__", None) == family.__name__
            if own and isinstance(function, types.FunctionType) and not name.startswith("_"):
                setattr(module, name, function)
    return module


def _not_compiled() -> str:
    return "not compiled (stand-ins of mmeffvit)"


def _missing(name: str) -> Callable[..., Any]:
    """A function that says what to do about the operator ``name``."""

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise MissingOperatorError(
            f"mmcv's operator '{name}' is not available: mmcv is installed without its compiled "
            "operators, and mmeffvit has no stand-in for this one. "
            f"{distribution.how_to_compile()}"
        )

    missing.__name__ = missing.__qualname__ = name
    return missing
