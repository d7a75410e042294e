"""Names that moved to another module, found under their old one for a release."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def moved_names(module: str, places: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A module's ``__getattr__``: what is asked for by an old name is taken from its new place.

    Args:
        module: ``__name__`` of the module that the names left.
        places: Module -> names that it has now.

    >>> __getattr__ = moved_names(__name__, {"mmeffvit.demo_data.rooms": ["ensure_rooms"]})
    """
    homes = {name: place for place, names in places.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} has moved to {homes[name]}; its old place goes in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(homes[name]), name)

    return find
