"""The filters of one level of the dual-tree wavelet transform, as numbers; see README.md."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops.tables import cached_table

#: taps of a filter from its middle outwards; all are symmetric
_LOW_13 = [n / 5120 for n in (2844, 1520, -247, -240, 114, 0, -9)]
_LOW_19 = [
    n / 1146880
    for n in (641600, 343786, -59280, -63816, 27360, 8208, -2160, -1539, 0, 81)
]  # fmt: skip
#: taps on either side of the middle one
REACH = 9


def _taps(half: list[float], alternate: bool) -> list[float]:
    """All 19 taps, those that are not there as zeros; signs alternate in a high-pass filter."""
    half = [-n if alternate and i % 2 else n for i, n in enumerate(half)]
    half += [0.0] * (REACH + 1 - len(half))
    return half[:0:-1] + half


@cached_table(maxsize=16)
def filters(synthesis: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2, 19) low-pass and high-pass filter of the analysis, or of the synthesis."""
    low, high = (_LOW_19, _LOW_13) if synthesis else (_LOW_13, _LOW_19)
    return torch.tensor([_taps(low, False), _taps(high, True)], dtype=dtype, device=device)


def reflected(count: int, device: torch.device) -> Tensor:
    """(count + 18,) places of a line that is continued by its mirror images, edges repeated."""
    places = torch.arange(-REACH, count + REACH, device=device)
    if not torch.compiler.is_compiling():
        places = places % (2 * count)
        return torch.minimum(places, 2 * count - 1 - places)
    # ONNX has no remainder of a symbol; so many reflections serve lines of two places
    for _ in range(5):
        places = torch.where(places < 0, -1 - places, places)
        places = torch.where(places < count, places, 2 * count - 1 - places)
    return places
