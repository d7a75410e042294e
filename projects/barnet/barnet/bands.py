"""The cosine spectrum of whole maps, and weights of its bands."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from mmeffvit.ops.precision import autocast_disabled, full_dtype, in_full


@lru_cache(maxsize=32)
def dct_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, n) orthonormal DCT-II: row k is the cosine of frequency k at the n samples."""
    # made outside of inference mode, as training may ask for it later
    with torch.inference_mode(False):
        k = torch.arange(n, dtype=torch.float64)
        cosines = torch.cos(math.pi * (2 * k + 1) * k[:, None] / (2 * n)) * (2 / n) ** 0.5
        cosines[0] *= 0.5**0.5
        return cosines.to(device, dtype)


def _products(x: Tensor, inverse: bool) -> Tensor:
    with autocast_disabled(x.device.type):
        dtype = full_dtype(x.dtype)
        rows, columns = (dct_matrix(n, dtype, x.device) for n in x.shape[-2:])
        if inverse:
            rows, columns = rows.T, columns.T
        return rows @ in_full(x) @ columns.T


def dct2(x: Tensor) -> Tensor:
    """Orthonormal two-dimensional DCT-II of (..., H, W), in float32 at least."""
    return _products(x, inverse=False)


def idct2(x: Tensor) -> Tensor:
    """The inverse of :func:`dct2`."""
    return _products(x, inverse=True)


@lru_cache(maxsize=32)
def band_map(height: int, width: int, num_bands: int, device: torch.device) -> Tensor:
    """(H, W) band of each coefficient: floor(bands (u / H + v / W) / 2), in whole numbers."""
    with torch.inference_mode(False):
        u, v = torch.arange(height)[:, None], torch.arange(width)
        return (num_bands * (u * width + v * height) // (2 * height * width)).to(device)


class BandAttentionModulation(nn.Module):
    """Learnt weights of the bands of a map's spectrum; all are 1 at first.

    The coefficients of a cosine transform of the whole map are multiplied by ``2 sigmoid(theta)``
    of their band, and transformed back. Bands are anti-diagonals of relative frequency, so that one
    set of weights serves maps of any size.

    Args:
        num_bands: Number of bands.
        adaptive: Add to theta what a small network, zero at first, makes of the logarithms of the
            mean energies of the bands.
    """

    def __init__(self, num_bands: int = 16, adaptive: bool = False):
        super().__init__()
        if num_bands < 1:
            raise ValueError(f"num_bands must be at least 1, got {num_bands}")
        self.num_bands = num_bands
        self.theta = nn.Parameter(torch.zeros(num_bands))
        self.mlp = None
        if adaptive:
            layers = (nn.Linear(num_bands, num_bands), nn.GELU(), nn.Linear(num_bands, num_bands))
            self.mlp = nn.Sequential(*layers)
            nn.init.zeros_(layers[-1].weight)
            nn.init.zeros_(layers[-1].bias)

    def energies(self, spectrum: Tensor) -> Tensor:
        """(B, bands) mean square of the coefficients of each band; 0 for a band without any."""
        bands = band_map(*spectrum.shape[-2:], self.num_bands, spectrum.device).flatten()
        squares = spectrum.square().mean(1).flatten(1)
        sums = squares.new_zeros(len(squares), self.num_bands).index_add(1, bands, squares)
        return sums / bands.bincount(minlength=self.num_bands).clamp(min=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        spectrum = dct2(x)
        with autocast_disabled(x.device.type):
            theta = in_full(self.theta)
            if self.mlp is not None:
                theta = theta + self.mlp((self.energies(spectrum) + 1e-6).log().to(theta.dtype))
            weights = 2 * theta.sigmoid()
        bands = band_map(*x.shape[-2:], self.num_bands, x.device)
        weights = weights[..., bands]
        if self.mlp is not None:
            weights = weights[:, None]
        return idct2(spectrum * weights).to(x.dtype)

    def extra_repr(self) -> str:
        return f"num_bands={self.num_bands}"
