"""Resuming under ``torch.load(weights_only=True)``, the default since torch 2.6.

mmengine <= 0.10.7 writes its log history into checkpoints and calls ``torch.load`` with its
defaults, which refuses it. Allowed here are the types of that history, and no function that could
run a file's own choice: a checkpoint from elsewhere stays data.
"""

import importlib.util
from typing import Any

from mmeffvit.files import numpy_globals, with_name

_SCHEDULER = "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"


class _Deferred(type):
    """Looks functions up in mmengine's scheduler when asked: importing it takes a second."""

    def __getattr__(cls, name: str) -> Any:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        if not name.startswith("_annealing"):
            raise AttributeError(name)
        return getattr(OneCycleParamScheduler, name)


class _OneCycleParamScheduler(metaclass=_Deferred):
    """Stands for mmengine's class while a checkpoint is read: a source of functions."""


def trust_mmengine() -> None:
    """Let torch load the objects that mmengine's runner saves; nothing without mmengine."""
    if importlib.util.find_spec("mmengine") is None:
        return
    import torch
    from mmengine.logging import HistoryBuffer

    # Named entries outlive `torch.serialization.safe_globals`, which at its end removes the plain
    # ones that it was given, also if they were there before; onedl-mmengine loads within it.
    torch.serialization.add_safe_globals(
        [
            with_name(HistoryBuffer),
            (_OneCycleParamScheduler, _SCHEDULER),
            (_get_method, "builtins.getattr"),
            *numpy_globals(),
        ]
    )


def _get_method(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, as which pickle writes a function defined in a class.

    Histories hold their statistics (``HistoryBuffer.mean``), the one-cycle schedule its annealing
    function.

    Raises:
        AttributeError: It is another class, or the attribute is none of its own functions.
    """
    from mmengine.logging import HistoryBuffer

    own = owner is HistoryBuffer and name in vars(HistoryBuffer) and not name.startswith("__")
    if not own and owner is not _OneCycleParamScheduler:
        raise AttributeError(f"the checkpoint asks for '{name}' of what mmengine never saves")
    return getattr(owner, name)
