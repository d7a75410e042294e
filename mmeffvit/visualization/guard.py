"""Pictures are by the way: one that cannot be drawn is a warning, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DrawingGuard:
    """Turns errors of drawing into warnings, one for each kind.

    >>> guard = DrawingGuard()
    >>> with guard.attempt("the picture of a.png", logger.warning):
    ...     draw()
    """

    def __init__(self) -> None:
        self._known: set[tuple] = set()

    @contextmanager
    def attempt(self, what: str, warn: Callable[[str], object]) -> Iterator[None]:
        """Run a block that draws.

        Args:
            what: For the warning, such as ``'the picture of a.png'``.
            warn: Gets the sentence, unless there was an error of this type from this place before.
        """
        try:
            yield
        except Exception as error:  # whatever a picture stumbles over
            place = error.__traceback__
            while place.tb_next is not None:
                place = place.tb_next
            kind = (type(error), place.tb_frame.f_code, place.tb_lineno)
            if kind not in self._known:
                self._known.add(kind)
                reason = (str(error).strip().splitlines() or [""])[0]
                warn(
                    f"Not drawn: {what} ({type(error).__name__}: {reason}). Everything else goes "
                    "on; what fails to be drawn in the same way is not named again."
                )
