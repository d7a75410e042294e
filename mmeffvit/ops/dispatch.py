"""Which implementation of an operator runs, and why.

The order is: the ``implementation`` argument, then the environment variable
``MMEFFVIT_IMPLEMENTATION``, then the first registered one that can run. The variable holds one name
for all operators (``reference``) or names per operator (``sec_attention=reference,rala=fused``).
Some implementations are for those alone who ask for them by name, and say why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmeffvit.version import require_torch

# whatever is computed here comes by this module first
require_torch()

ENVIRONMENT_VARIABLE = "MMEFFVIT_IMPLEMENTATION"


class UnavailableImplementationError(RuntimeError):
    """An implementation was asked for by name and cannot run here; the message says why."""


@dataclass(frozen=True)
class _Implementation:
    function: Callable
    # returns None when it can run on these arguments, otherwise the reason why it cannot
    refuses: Callable[..., str | None]
    # why it is not chosen unless it is asked for; empty if it is
    by_name: str


_IMPLEMENTATIONS: dict[str, dict[str, _Implementation]] = {}
_PREFERENCE = "the order of preference"


def register(
    op: str, name: str, function: Callable, refuses: Callable | None = None, by_name: str = ""
) -> None:
    """Add an implementation of an operator; those added first are preferred.

    Args:
        op: Name of the operator.
        name: Name of the implementation, unique for the operator.
        function: Has the operator's signature without ``implementation``.
        refuses: Called with the same arguments; returns None if it can run, else the reason.
        by_name: Why it is left out of the order of preference, and runs for those alone who ask for
            it by its name; empty if it is part of the order.
    """
    _IMPLEMENTATIONS.setdefault(op, {})[name] = _Implementation(
        function, refuses or (lambda *args, **kwargs: None), by_name
    )


def implementations(op: str) -> list[str]:
    """Names of the implementations of an operator, in the order in which they were added."""
    if op not in _IMPLEMENTATIONS:
        raise ValueError(f"unknown operator '{op}'; known are {sorted(_IMPLEMENTATIONS)}")
    return list(_IMPLEMENTATIONS[op])


def _from_environment(op: str) -> str | None:
    chosen = None
    for entry in os.environ.get(ENVIRONMENT_VARIABLE, "").split(","):
        name, _, implementation = entry.strip().rpartition("=")
        if not name:
            chosen = chosen or implementation or None
        elif name.strip() == op:
            return implementation.strip()
    return chosen


def _candidates(op: str, implementation: str | None) -> tuple[list[str], str]:
    known = implementations(op)
    for name, source in (
        (implementation, "the argument"),
        (_from_environment(op), f"the environment variable {ENVIRONMENT_VARIABLE}"),
    ):
        if name:
            if name not in known:
                raise ValueError(
                    f"{source} asks for implementation '{name}' of {op}; it has {', '.join(known)}"
                )
            return [name], source
    return known, _PREFERENCE


def select(op: str, implementation: str | None, *args, **kwargs) -> Callable:
    """Choose the implementation that runs on these arguments.

    Args:
        op: Name of the operator.
        implementation: Name asked for by the caller, or None.
        *args: Arguments of the operator, shown to the implementations.
        **kwargs: Its keyword arguments.

    Raises:
        ValueError: The operator or the implementation is not known.
        UnavailableImplementationError: Nothing that may be used can run on these arguments.
    """
    names, source = _candidates(op, implementation)
    reasons = []
    for name in names:
        candidate = _IMPLEMENTATIONS[op][name]
        if candidate.by_name and source == _PREFERENCE:
            reasons.append(f"{name}: runs when asked for by name ({candidate.by_name})")
            continue
        reason = candidate.refuses(*args, **kwargs)
        if reason is None:
            return candidate.function
        reasons.append(f"{name}: {reason}")
    raise UnavailableImplementationError(
        f"no implementation of {op} chosen by {source} can run: {'; '.join(reasons)}"
    )


def run(op: str, implementation: str | None, *args, **kwargs) -> Any:
    """Call the implementation that :func:`select` chooses for these arguments."""
    return select(op, implementation, *args, **kwargs)(*args, **kwargs)


def explain(op: str, *args, implementation: str | None = None, **kwargs) -> str:
    """Say in words which implementation would run on these arguments, and why not the others."""
    names, source = _candidates(op, implementation)
    lines, chosen = [], None
    for name in names:
        candidate = _IMPLEMENTATIONS[op][name]
        reason = candidate.refuses(*args, **kwargs)
        if reason is not None:
            lines.append(f"{name}: cannot run: {reason}")
        elif candidate.by_name and source == _PREFERENCE:
            lines.append(f"{name}: can run when asked for by name: {candidate.by_name}")
        elif chosen is None:
            chosen = name
            lines.append(f"{name}: runs, chosen by {source}")
        else:
            lines.append(f"{name}: can run, comes after {chosen}")
    return "\n".join(lines)
