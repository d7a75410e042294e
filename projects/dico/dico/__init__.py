"""DiCo, a diffusion network of convolutions, with its loss and sampler; for custom_imports."""

from projects.dico.dico.data import DigitImages
from projects.dico.dico.diffusion import Diffusion, linear_betas, respaced
from projects.dico.dico.model import LatentDiffusion
from projects.dico.dico.network import DiCo, convert_official

__all__ = [
    "DiCo",
    "Diffusion",
    "DigitImages",
    "LatentDiffusion",
    "convert_official",
    "linear_betas",
    "respaced",
]
