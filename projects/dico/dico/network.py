"""DiCo: a U of convolutional blocks, modulated by time and class (arXiv 2505.11196)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.layers import MLP, GatedConvMixer, MapContext
from mmeffvit.ops.precision import autocast_disabled
from mmeffvit.registry import MODELS


def timestep_embedding(t: Tensor, dim: int = 256) -> Tensor:
    """(B,) times, whole or not, to (B, dim): cosines first, then sines, in float32."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return torch.cat((angles.cos(), angles.sin()), 1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm over the channels of each pixel, without weights, times 1 + scale, plus shift."""
    x = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6).permute(0, 3, 1, 2)
    return torch.addcmul(shift, x, 1 + scale)


class Modulation(nn.Module):
    """SiLU and a linear layer: (B, C) to `parts` tensors (B, C, 1, 1). It starts at zero."""

    def __init__(self, dim: int, parts: int):
        super().__init__()
        self.linear = nn.Linear(dim, parts * dim)
        self.parts = parts

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(condition))[..., None, None].chunk(self.parts, 1)


class DiCoBlock(nn.Module):
    """A gated convolution and an MLP, each after a modulated norm and times a gate.

    Args:
        dim: Channels C.
        mlp_ratio: Channels inside the MLP over C.
    """

    def __init__(self, dim: int, mlp_ratio: float):
        super().__init__()
        self.modulation = Modulation(dim, 6)
        self.mixer = GatedConvMixer(dim)
        self.ffn = MLP(dim, int(mlp_ratio * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C) to (B, C, H, W)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        x = x + gate1 * self.mixer(modulated(x, shift1, scale1), MapContext.of(x))
        return x + gate2 * self.ffn(modulated(x, shift2, scale2))


class Condition(nn.Module):
    """What a width knows of time and class: (B,) and (B,) to (B, C)."""

    def __init__(self, dim: int, num_labels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.labels = nn.Embedding(num_labels, dim)

    def forward(self, sinusoid: Tensor, labels: Tensor) -> Tensor:
        return self.mlp(sinusoid) + self.labels(labels)


def _arch(dim: int, depths: Sequence[int], mlp_ratio: float = 2) -> dict[str, Any]:
    return {"embed_dims": dim, "depths": depths, "mlp_ratio": mlp_ratio}


@MODELS.register_module()
class DiCo(BaseModule):
    """A denoiser of latents or images (B, C, H, W), H and W multiples of 4.

    Three levels of widths D, 2 D, 4 D on the way down, 2 D and 2 D on the way up.

    Args:
        arch: 'small', 'base', 'large', 'extra-large', 'huge', or a dict with ``embed_dims``
            (D, even), ``depths`` (five numbers of blocks) and ``mlp_ratio``.
        in_channels: Channels of the latents.
        num_classes: Classes. With label drop there is one more label, the last, for no class.
        label_drop: Share of labels that training replaces by no class.
        learn_sigma: Also return as many channels that say the variance.
        init_cfg: Of mmengine.

    Raises:
        ValueError: There is no such variant, or a dict has other keys.
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        "small": _arch(128, (5, 4, 4, 4, 4)),
        "base": _arch(256, (5, 4, 4, 4, 4)),
        "large": _arch(352, (9, 8, 9, 8, 9)),
        "extra-large": _arch(416, (9, 9, 10, 9, 9)),
        "huge": _arch(416, (14, 12, 10, 12, 14), 4),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "small",
        in_channels: int = 4,
        num_classes: int = 1000,
        label_drop: float = 0.1,
        learn_sigma: bool = True,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        if isinstance(arch, str):
            if arch not in self.arch_zoo:
                hint = did_you_mean(arch, self.arch_zoo)
                raise ValueError(f"DiCo has no variant '{arch}'; it has {[*self.arch_zoo]}{hint}")
            arch = self.arch_zoo[arch]
        if arch.keys() != {"embed_dims", "depths", "mlp_ratio"} or len(arch["depths"]) != 5:
            raise ValueError(
                "the arch dict of DiCo needs exactly embed_dims, depths (five numbers) and "
                f"mlp_ratio; got {dict(arch)}"
            )
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.label_drop = label_drop
        self.learn_sigma = learn_sigma
        dim = arch["embed_dims"]
        widths = (dim, 2 * dim, 4 * dim)
        labels = num_classes + (label_drop > 0)
        self.conditions = nn.ModuleList(Condition(width, labels) for width in widths)
        self.embed = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.levels = nn.ModuleList(
            nn.ModuleList(DiCoBlock(width, arch["mlp_ratio"]) for _ in range(depth))
            for width, depth in zip((*widths, 2 * dim, 2 * dim), arch["depths"])
        )
        self.downs = nn.ModuleList(
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False) for width in widths[:2]
        )
        self.ups = nn.ModuleList(
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False) for width in (4 * dim, 2 * dim)
        )
        self.fuses = nn.ModuleList(nn.Conv2d(width, 2 * dim, 1) for width in (4 * dim, 2 * dim))
        self.out_modulation = Modulation(2 * dim, 2)
        self.out = nn.Conv2d(2 * dim, in_channels * (2 if learn_sigma else 1), 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the authors draw them: every block starts as the identity, and the output as zero."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                # the first convolution flattened, as a matrix
                weight = module.weight.flatten(1) if module is self.embed else module.weight
                nn.init.xavier_uniform_(weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for condition in self.conditions:
            for weight in (condition.labels.weight, *(condition.mlp[i].weight for i in (0, 2))):
                nn.init.normal_(weight, std=0.02)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        nn.init.zeros_(self.out.weight)

    def conditions_of(self, t: Tensor, labels: Tensor) -> list[Tensor]:
        """Time and class in each of the three widths."""
        with autocast_disabled(t.device.type):
            sinusoid = timestep_embedding(t)
        return [condition(sinusoid, labels) for condition in self.conditions]

    def features(self, x: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What each of the five levels makes, and the output, last.

        Args:
            x: (B, C, H, W) noisy latents.
            t: (B,) times, from 0.
            labels: (B,) classes; `num_classes` is none of them.

        Raises:
            ValueError: A side of x is no multiple of 4.
        """
        if any(side % 4 for side in x.shape[-2:]):
            raise ValueError(
                f"DiCo halves a map twice: sides must be multiples of 4, got {tuple(x.shape)}"
            )
        if self.training and self.label_drop > 0:
            # one draw for all three widths
            dropped = torch.rand(len(labels), device=labels.device) < self.label_drop
            labels = labels.masked_fill(dropped, self.num_classes)
        narrow, middle, wide = self.conditions_of(t, labels)
        outs: list[Tensor] = []

        def run(level: int, x: Tensor, condition: Tensor) -> Tensor:
            for block in self.levels[level]:
                x = block(x, condition)
            outs.append(x)
            return x

        first = run(0, self.embed(x), narrow)
        second = run(1, F.pixel_unshuffle(self.downs[0](first), 2), middle)
        x = run(2, F.pixel_unshuffle(self.downs[1](second), 2), wide)
        for level, skip in ((0, second), (1, first)):
            up = F.pixel_shuffle(self.ups[level](x), 2)
            x = run(3 + level, self.fuses[level](torch.cat((up, skip), 1)), middle)
        outs.append(self.out(modulated(x, *self.out_modulation(middle))))
        return tuple(outs)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The noise in x, and numbers that say its variance if `learn_sigma`; see `features`."""
        return self.features(x, t, labels)[-1]

    def guided(self, x: Tensor, t: Tensor, labels: Tensor, scale: float) -> Tensor:
        """The output pushed away from what it is without a class.

        As the authors sample: guidance acts on the first three channels alone, and the numbers that
        say the variance stay each half's own.

        Args:
            x: (2 B, C, H, W); the second half is not read.
            t: (2 B,).
            labels: (2 B,); the second half is no class.
            scale: 1 for no guidance.

        Returns:
            (2 B, ...), the first three channels of both halves alike.
        """
        x = x.chunk(2)[0]
        out = self(torch.cat((x, x)), t, labels)
        given, free = out[:, :3].chunk(2)
        noise = free + scale * (given - free)
        return torch.cat((torch.cat((noise, noise)), out[:, 3:]), 1)


_LEVELS = ("encoder_level_1", "encoder_level_2", "latent", "decoder_level_2", "decoder_level_1")
_PARTS = {
    "conv1": "mixer.proj_in",
    "conv2": "mixer.dwconv",
    "ca.1": "mixer.gate",
    "conv3": "mixer.proj",
    "conv4": "ffn.fc1",
    "conv5": "ffn.fc2",
    "adaLN_modulation.1": "modulation.linear",
}
_WHOLE = {
    "x_embedder.proj": "embed",
    "down1_2.body.0": "downs.0",
    "down2_3.body.0": "downs.1",
    "up3_2.body.0": "ups.0",
    "up2_1.body.0": "ups.1",
    "reduce_chan_level2": "fuses.0",
    "reduce_chan_level1": "fuses.1",
    "final_layer.adaLN_modulation.1": "out_modulation.linear",
    "final_layer.out_proj": "out",
}


def convert_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The authors' weights under the names of `DiCo`.

    Args:
        state: A state dict, or a training state, of which ``ema`` is taken.

    Raises:
        KeyError: A weight is not known.
    """
    state = state.get("ema", state)
    converted = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if embedder := re.fullmatch(r"t_embedder_(\d)\.(mlp\.\d)", name):
            ours = f"conditions.{int(embedder[1]) - 1}.{embedder[2]}"
        elif table := re.fullmatch(r"y_embedder\.embedding_table_(\d)", name):
            ours = f"conditions.{table[1]}.labels"
        elif block := re.fullmatch(rf"({'|'.join(_LEVELS)})\.(\d+)\.(.+)", name):
            ours = f"levels.{_LEVELS.index(block[1])}.{block[2]}.{_PARTS[block[3]]}"
        else:
            ours = _WHOLE[name]
        converted[f"{ours}.{kind}"] = value
    return converted
