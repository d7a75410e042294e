"""A network that does more than its class says, and keeps its names of weights."""

from __future__ import annotations

from typing import Any

from torch import nn


def extend(module: nn.Module, part: type, prefix: str, **attributes: Any) -> None:
    """Put the methods of `part` before those of a module's own class, for this module alone.

    As ``torch.nn.utils.parametrize`` does it: what asks for the class still finds it, and no weight
    gets another name, so that files of the network fit with the part and without it.

    Args:
        module: It is changed.
        part: A class; its ``super()`` is the module's own class.
        prefix: Of the name of the new class.
        **attributes: Of the new class.
    """
    cls = type(module)
    own = {"__doc__": cls.__doc__, "__module__": part.__module__, **attributes}
    module.__class__ = type(f"{prefix}{cls.__name__}", (part, cls), own)
