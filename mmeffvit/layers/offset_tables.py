"""Tables of the offset between two tokens, for windows and maps of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeffvit.layers.position_table import PositionTable
from mmeffvit.ops.precision import autocast_disabled, in_full

#: squared distance from which on a float32 exponential of its negative is zero
_UNDERFLOW = 104
INITS = ("published", "unit")


class GaussianMixtureGain(nn.Module):
    """A gain per head and offset: a mixture of Gaussians of the distance (arXiv 2309.05375).

    ``sum_k alpha_k exp(-(dy^2 + dx^2) / (2 (sigma_k^2 + 1e-5)))``, in tokens: two numbers for each
    kernel and head, and maps of any size.

    Args:
        num_heads: Heads h.
        num_kernels: Kernels K.
        truncate: Zero from a squared distance of 104 on, as in the authors' arithmetic, in which a
            float32 exponential vanishes there; and with the digits that it has before.
        init: ``'published'``: sigma from N(10, 10), alpha from N(0, 2), so that some heads start by
            attending to the opposite. ``'unit'``, ours: every alpha is 1 / K, so that all gains
            start with 1 at the token itself and fall with the distance.

    Raises:
        ValueError: There is no kernel, or `init` is another word.
    """

    def __init__(
        self,
        num_heads: int,
        num_kernels: int = 5,
        truncate: bool = False,
        init: str = "published",
    ):
        super().__init__()
        if num_kernels < 1:
            raise ValueError(f"num_kernels must be at least 1, got {num_kernels}")
        if init not in INITS:
            raise ValueError(f"init must be {' or '.join(map(repr, INITS))}, got {init!r}")
        self.truncate = truncate
        self.sigma = nn.Parameter(torch.empty(num_kernels, num_heads).normal_(10, 10))
        self.alpha = nn.Parameter(torch.empty(num_kernels, num_heads).normal_(0, 2))
        if init == "unit":
            nn.init.constant_(self.alpha, 1 / num_kernels)

    def of_window(self, window: tuple[int, int]) -> Tensor:
        """(h, 2 r - 1, 2 c - 1) for windows of r rows and c columns, in float32 at least."""
        with autocast_disabled(self.sigma.device.type):
            power = 1 / (in_full(self.sigma).square() + 1e-5)
            alpha = in_full(self.alpha)
            rows, columns = (
                torch.arange(1 - n, n, device=power.device).to(power.dtype).square() for n in window
            )
            if self.truncate:
                distance = rows[:, None] + columns
                base = torch.where(distance < _UNDERFLOW, distance.neg().exp().sqrt(), 0)
                return (alpha[..., None, None] * base ** power[..., None, None]).sum(0)
            # a Gaussian of the distance is one of rows times one of columns
            of_rows, of_columns = ((-s / 2 * power[..., None]).exp() for s in (rows, columns))
            of_rows = of_rows * alpha[..., None]  # (K, h, 2 r - 1)
            return of_rows.permute(1, 2, 0) @ of_columns.transpose(0, 1)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not pulled to zero, as timm asks."""
        return {"sigma", "alpha"}

    def extra_repr(self) -> str:
        kernels, heads = self.sigma.shape
        return f"num_heads={heads}, num_kernels={kernels}, truncate={self.truncate}"


class URPETables(nn.Module):
    """A bias of the logits and a factor of the weights per head and offset (arXiv 2205.13401).

    The paper's tables are those of a sequence; offsets of rows and columns are ours. Tables are
    resized to windows or maps of another size, bicubically, when they are used and when they are
    loaded: the first and the last offset of one are those of the other.

    Args:
        num_heads: Heads h.
        window: Rows r and columns c of the windows, or of the map, that the tables are made for.
    """

    def __init__(self, num_heads: int, window: tuple[int, int]):
        super().__init__()
        offsets = tuple(2 * n - 1 for n in window)
        self.bias = PositionTable(num_heads, offsets)
        self.factor = PositionTable(num_heads, offsets)
        # as attention with a bias alone
        nn.init.ones_(self.factor.table)

    def of_window(self, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Bias and factor, (h, 2 r - 1, 2 c - 1) each, for windows of r rows and c columns."""
        offsets = [2 * n - 1 for n in window]
        # heads lie last in a table, and operators read it row by row: a copy, also of one head
        bias, factor = (
            table.of_map(*offsets)[0].clone(memory_format=torch.contiguous_format)
            for table in (self.bias, self.factor)
        )
        return bias, factor
