"""Photographs of scikit-image with made-up noise, or made small."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from mmeffvit.registry import DATASETS
from mmeffvit.visualization.attention.images import read_image

#: colour photographs in scikit-image's wheel, by split; a photograph is in one of them alone
PHOTOGRAPHS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    "test": ("chelsea.png", "coffee.png"),
}


def degraded(image: Tensor, noise: float = 0.0, scale: int = 1, seed: int | None = None) -> Tensor:
    """What a restorer is given for a photograph.

    Args:
        image: (C, H, W) in [0, 1]; sides are multiples of `scale`.
        noise: Standard deviation of the Gaussian noise that is added, of 255.
        scale: How many times smaller the image becomes, bicubically, with antialiasing.
        seed: Of the noise; torch's generator if None.

    Returns:
        (C, H / scale, W / scale), not clipped.
    """
    if scale > 1:
        size = [side // scale for side in image.shape[1:]]
        image = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]
    if noise:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        image = image + torch.randn(image.shape, generator=generator) * (noise / 255)
    return image


@DATASETS.register_module()
class Photographs(Dataset):
    """Dicts of ``inputs``, a degraded image, and ``targets``, the image: (3, H, W) in [0, 1].

    In training these are crops at random places, turned and mirrored at random; in testing the
    middle of each photograph, with noise that is always the same.

    Args:
        split: 'train' or 'test', of `PHOTOGRAPHS`.
        crop: Side of the crops, or of the middle, in pixels of the targets; photographs that are
            smaller are cropped to what they have.
        noise: See `degraded`.
        scale: See `degraded`; it must divide `crop`.
        length: Samples of an epoch of training.

    Raises:
        ValueError: There is no such split, `scale` does not divide `crop`, or scikit-image is not
            installed or comes without these photographs.
    """

    def __init__(
        self,
        split: str,
        crop: int = 64,
        noise: float = 0.0,
        scale: int = 1,
        length: int = 1000,
    ):
        if split not in PHOTOGRAPHS:
            raise ValueError(f"split must be one of {', '.join(PHOTOGRAPHS)}, got {split!r}")
        if crop % scale:
            raise ValueError(f"scale must divide crop, got scale={scale} and crop={crop}")
        spec = find_spec("skimage")
        if spec is None or spec.origin is None:
            raise ValueError("scikit-image has the photographs; pip install scikit-image")
        self.images = [
            torch.tensor(read_image(Path(spec.origin).parent / "data" / name)).permute(2, 0, 1)
            for name in PHOTOGRAPHS[split]
        ]
        self.training = split == "train"
        self.crop = crop
        self.options = {"noise": noise, "scale": scale}
        self.length = length if self.training else len(self.images)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.training:
            target = self._random_crop()
            return {"inputs": degraded(target, **self.options), "targets": target}
        image = self.images[index]
        # a multiple of the scale that the photograph has
        scale = self.options["scale"]
        sides = [min(self.crop, side // scale * scale) for side in image.shape[1:]]
        top, left = ((side - own) // 2 for side, own in zip(image.shape[1:], sides))
        target = image[:, top : top + sides[0], left : left + sides[1]].float() / 255
        return {"inputs": degraded(target, **self.options, seed=index), "targets": target}

    def _random_crop(self) -> Tensor:
        def draw(choices: int) -> int:
            return int(torch.randint(choices, ()))

        image = self.images[draw(len(self.images))]
        top, left = (draw(max(side - self.crop, 0) + 1) for side in image.shape[1:])
        crop = image[:, top : top + self.crop, left : left + self.crop].float() / 255
        crop = torch.rot90(crop, draw(4), (1, 2))
        return crop.flip(2) if draw(2) else crop
