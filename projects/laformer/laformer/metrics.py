"""How near a restored image is to the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from mmeffvit.registry import METRICS


def luma(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB in [0, 255] to the Y of BT.601's YCbCr, in [16, 235], not rounded."""
    return 16 + image.astype(np.float64) @ (65.481, 128.553, 24.966) / 255


@METRICS.register_module()
class RestorationScores(BaseMetric):
    """PSNR and SSIM of images that are rounded to 8 bits, before and after restoring.

    SSIM has the published window: Gaussian, sigma 1.5, 11 x 11. ``psnr_before`` is that of the
    input, enlarged bicubically where targets are larger.

    Args:
        crop_border: Pixels at each side that do not count; in super-resolution usually the scale.
        on_luma: Compare the Y of YCbCr, as papers on super-resolution and rain do, in place of RGB.
        collect_device: Of mmengine.
        prefix: Of mmengine.
    """

    default_prefix = "restoration"

    def __init__(
        self,
        crop_border: int = 0,
        on_luma: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.crop_border = crop_border
        self.on_luma = on_luma

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Tensor]]) -> None:
        for sample in data_samples:
            target, given = sample["targets"], sample["inputs"]
            if given.shape != target.shape:
                given = F.interpolate(given[None], target.shape[-2:], mode="bicubic")[0]
            images = [self._pixels(x) for x in (target, given, sample["restored"])]
            (before, _), (psnr, ssim) = (self._scores(images[0], image) for image in images[1:])
            self.results.append({"psnr": psnr, "ssim": ssim, "psnr_before": before})

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([r[name] for r in results])) for name in results[0]}

    def _pixels(self, image: Tensor) -> np.ndarray:
        """(H, W, 3) or (H, W): whole numbers of [0, 255], or the luma of such, as float64."""
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        border = self.crop_border
        pixels = pixels[border : len(pixels) - border, border : pixels.shape[1] - border]
        return luma(pixels) if self.on_luma else pixels.astype(np.float64)

    def _scores(self, target: np.ndarray, image: np.ndarray) -> tuple[float, float]:
        return (
            float(peak_signal_noise_ratio(target, image, data_range=255)),
            float(
                structural_similarity(
                    target,
                    image,
                    data_range=255,
                    channel_axis=None if self.on_luma else -1,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
            ),
        )
