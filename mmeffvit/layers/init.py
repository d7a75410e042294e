"""Initial values that networks share."""

import math

from torch import nn


def draw_linear_layers(module: nn.Module) -> None:
    """Draw 1x1 convolutions, the linear layers of most authors, from a normal of std 0.02.

    Their biases become zero; all other layers keep what they have.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_convolution(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Draw a convolution from a normal of std sqrt(2 / fan out), of one group; zero its bias."""
    fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
