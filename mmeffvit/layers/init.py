"""Initial values that networks share."""

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
