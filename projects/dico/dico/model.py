"""A denoiser with its process, as mmengine trains it."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmeffvit.registry import MODELS
from projects.dico.dico.diffusion import Denoiser, Diffusion, linear_betas, respaced


@MODELS.register_module()
class LatentDiffusion(BaseModel):
    """Trains a denoiser, and samples with it.

    A batch is a dict with ``inputs``, (B, C, H, W) latents or images in [-1, 1], and ``labels``.

    Args:
        denoiser: Config of a `DiCo`.
        steps: Of the process in training.
        sample_steps: Of the process in sampling.
        guidance: See `DiCo.guided`; 1 for none.
        data_preprocessor: Of mmengine.
        init_cfg: Of mmengine.
    """

    def __init__(
        self,
        denoiser: dict[str, Any],
        steps: int = 1000,
        sample_steps: int = 250,
        guidance: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.denoiser = MODELS.build(denoiser)
        betas, learn_sigma = linear_betas(steps), self.denoiser.learn_sigma
        self.process = Diffusion(betas, learn_sigma=learn_sigma)
        self.short_process = Diffusion(*respaced(betas, sample_steps), learn_sigma=learn_sigma)
        self.guidance = guidance

    def forward(
        self, inputs: Tensor, labels: Tensor, mode: str = "tensor"
    ) -> dict[str, Tensor] | Tensor:
        """Losses (``mode='loss'``), samples of the labels in the inputs' shape (``'predict'``), or
        what the denoiser makes of the inputs at step 0 (``'tensor'``)."""
        if mode == "loss":
            index = torch.randint(len(self.process), (len(inputs),), device=inputs.device)
            losses = self.process.losses(
                lambda state, t: self.denoiser(state, t, labels),
                inputs,
                index,
                torch.randn_like(inputs),
            )
            return {f"loss_{name}": loss.mean() for name, loss in losses.items()}
        if mode == "predict":
            return self.sample(labels, inputs.shape[1:])
        return self.denoiser(inputs, torch.zeros_like(labels), labels)

    @torch.no_grad()
    def sample(self, labels: Tensor, shape: torch.Size | tuple[int, int, int]) -> Tensor:
        """(B, C, H, W) samples of classes.

        Args:
            labels: (B,).
            shape: C, H and W.
        """
        noise = torch.randn(len(labels), *shape, device=labels.device)
        if self.guidance == 1:
            return self._last(lambda x, t: self.denoiser(x, t, labels), noise)
        both = torch.cat((labels, torch.full_like(labels, self.denoiser.num_classes)))
        pairs = self._last(
            lambda x, t: self.denoiser.guided(x, t, both, self.guidance), torch.cat((noise, noise))
        )
        return pairs[: len(labels)]

    def _last(self, denoiser: Denoiser, noise: Tensor) -> Tensor:
        """The sample at the end of all states."""
        (sample,) = deque(self.short_process.sample(denoiser, noise), maxlen=1)
        return sample
