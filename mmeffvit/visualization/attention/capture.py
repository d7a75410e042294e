"""What the token mixers of a backbone were given on one image, and what their outputs depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.layers.context import MapContext
from mmeffvit.layers.mixers import TokenMixer

#: random combinations of channels that the size of a derivative is estimated from
_PROBES = 16


@dataclass(frozen=True)
class MixerCall:
    """A token mixer and what it was called with.

    Attributes:
        stage: Stage of the backbone, from 0.
        block: Block of the stage, from 0.
        num_blocks: Blocks that the stage has.
        stride: Pixels of the input per token.
        mixer: The module.
        x: (1, C, H, W) input.
        context: Shared tables of the stage.
        tokens: q, k and v that its ``core`` got, (1, L, h, d) each; None for mixers without one.
        positions: What the core got of places; None where that is ``mixer.positions(context)``.
        grid: Rows and columns of the map, where tokens came in a row; None for those of `context`.
        extra: Tokens in front of those of the map, such as a class token.
    """

    stage: int
    block: int
    num_blocks: int
    stride: int
    mixer: TokenMixer
    x: Tensor
    context: MapContext
    tokens: tuple[Tensor, Tensor, Tensor] | None
    positions: Any = None
    grid: tuple[int, int] | None = None
    extra: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.grid or self.context.size

    @property
    def num_tokens(self) -> int:
        """Tokens that attend, those that are no part of the map among them."""
        return self.extra + self.size[0] * self.size[1]

    def _index(self, token: tuple[int, int]) -> int:
        """Place of a token of the map among all of them."""
        return self.extra + token[0] * self.size[1] + token[1]

    def token_at(self, y: float, x: float) -> tuple[int, int]:
        """Row and column of the token that covers a pixel of the input."""
        return token_at((y, x), self.stride, self.size)

    def attention_of(self, token: tuple[int, int]) -> Tensor:
        """How much the output at a token takes from the value of every token.

        Attention is linear in the values, with the same weight for all channels of a head, so the
        weight is the derivative of an output by a value. It is taken from the ``core`` itself: this
        holds for softmax, linear, clustered, decomposed and chained attention alike.

        Args:
            token: Row and column of the query.

        Returns:
            (h, H, W). Of softmax attention each head sums to one.

        Raises:
            TypeError: The mixer has no ``core``.
        """
        if self.tokens is None:
            raise TypeError(
                f"{type(self.mixer).__name__} has no core(q, k, v, positions), so it has no weight "
                "per value; use influence_on"
            )
        q, k, v = self.tokens
        positions = self.positions
        if positions is None:
            positions = self.mixer.positions(self.context)
        with torch.enable_grad():
            v = v.clone().requires_grad_()
            out = self.mixer.core(q, k, v, positions)
            # heads do not see each other: one backward pass serves all
            (gradient,) = torch.autograd.grad(out[0, self._index(token), :, 0].sum(), v)
        return gradient[0, self.extra :, :, 0].T.unflatten(-1, self.size)

    def influence_on(self, token: tuple[int, int]) -> Tensor:
        """How strongly the mixer's output at a token depends on every token of its input.

        The root mean square of the derivative of all output channels by all input channels,
        estimated from random combinations of output channels. It works for any mixer.

        Args:
            token: Row and column of the output.

        Returns:
            (H, W), not negative.
        """
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            x = self.x.clone().requires_grad_()
            out = self.mixer(x, self.context)[0].flatten(1)[:, self._index(token)]
            total = torch.zeros(self.num_tokens, device=x.device)
            for _ in range(_PROBES):
                signs = torch.randint(0, 2, out.shape, generator=generator).to(out) * 2 - 1
                (gradient,) = torch.autograd.grad(out, x, signs, retain_graph=True)
                total += gradient[0].square().mean(0).flatten()
        return (total / (_PROBES * len(out))).sqrt()[self.extra :].unflatten(0, self.size)


def token_at(at: Sequence[float], stride: int, size: Sequence[int]) -> tuple[int, int]:
    """Row and column of the token that covers a pixel of the input, in a map of so many tokens."""
    row, column = (min(int(place // stride), n - 1) for place, n in zip(at, size))
    return row, column


def _outermost_mixers(module: nn.Module) -> Iterator[TokenMixer]:
    """Token mixers in a module, without those that a mixer is made of."""
    for child in module.children():
        if isinstance(child, TokenMixer):
            yield child
        else:
            yield from _outermost_mixers(child)


def _stages(backbone: nn.Module) -> list[tuple[int, Iterable[nn.Module]]]:
    """Strides of a backbone's stages, and the modules that hold their mixers.

    The blocks of a plain network are one stage, those of each branch another.
    """
    if hasattr(backbone, "stages"):
        return [*zip(backbone.stage_strides, ([stage] for stage in backbone.stages))]
    blocks = getattr(backbone, "blocks", ())
    if not len(blocks):
        return []
    strides = tuple(backbone.stage_strides)
    if hasattr(blocks[0], "encoders"):
        return [
            (stride, [b.encoders[str(i)] for b in blocks if str(i) in b.encoders])
            for i, stride in enumerate(strides)
        ]
    # what makes a pyramid beside a plain network has other strides
    return [(strides[0] if len({*strides}) == 1 else backbone.patch_embed.stride[0], blocks)]


def find_mixers(backbone: nn.Module) -> list[list[TokenMixer]]:
    """The token mixers of every stage, in the order of their blocks.

    The blocks of a plain network are one stage, or one for each of its branches.

    Raises:
        ValueError: There are none.
    """
    mixers = [
        [mixer for module in modules for mixer in _outermost_mixers(module)]
        for _, modules in _stages(backbone)
    ]
    if not any(mixers):
        raise ValueError(
            f"{type(backbone).__name__} has no token mixers in its stages or blocks, whose "
            "attention could be drawn; its feature maps can be (--features)"
        )
    return mixers


def record_mixers(
    backbone: nn.Module,
    image: Tensor,
    stages: Sequence[int] | None = None,
    blocks: Sequence[int] = (-1,),
) -> list[MixerCall]:
    """Run a backbone on an image, and keep what some of its mixers were called with.

    Args:
        backbone: Any `PyramidViT`, or a network whose ``stages`` or ``blocks`` hold token mixers.
        image: (1, 3, H, W), normalised.
        stages: Stages from 0; None for all that have mixers.
        blocks: Blocks of each of them, from 0 or, if negative, from the last.

    Returns:
        The calls, stage by stage.

    Raises:
        ValueError: There is no such stage or block, or there are no mixers.
    """
    mixers = find_mixers(backbone)
    chosen = {}
    every = [stage for stage, found in enumerate(mixers) if found]
    for stage in every if stages is None else stages:
        if not 0 <= stage < len(mixers):
            raise ValueError(
                f"there is no stage {stage}: {type(backbone).__name__} has the stages 0 to "
                f"{len(mixers) - 1}"
            )
        count = len(mixers[stage])
        for block in blocks:
            if not -count <= block < count:
                raise ValueError(
                    f"there is no block {block} in stage {stage}: it has {count} with a token "
                    f"mixer, 0 to {count - 1}, or {-count} to -1 counted from the last"
                )
            chosen[stage, block % count] = mixers[stage][block]
    cores = {mixer: mixer.core for mixer in chosen.values() if hasattr(mixer, "core")}
    arguments = dict(record_calls(backbone, image, [*chosen.values(), *cores.values()]))
    strides = [stride for stride, _ in _stages(backbone)]
    calls = []
    for (stage, block), mixer in chosen.items():
        x, context = arguments[mixer][:2]
        tokens = arguments.get(cores.get(mixer))
        made = (None, None) if tokens is None else (tokens[:3], tokens[3])
        place = (stage, block, len(mixers[stage]), strides[stage])
        calls.append(MixerCall(*place, mixer, x, context, *made, *_grid(x, image, strides[stage])))
    return calls


def _grid(x: Tensor, image: Tensor, stride: int) -> tuple[tuple[int, int] | None, int]:
    """Rows and columns of the map whose tokens came in a row, and how many others are in front."""
    rows, columns = (-(-side // stride) for side in image.shape[2:])
    extra = x.shape[3] - rows * columns
    return ((rows, columns), extra) if x.shape[2] == 1 and extra > 0 else (None, 0)


def record_calls(
    backbone: nn.Module, image: Tensor, modules: Iterable[nn.Module]
) -> list[tuple[nn.Module, tuple]]:
    """Run a backbone on an image, as it is evaluated, and note what its modules are called with.

    Returns:
        A module and its arguments for each call, in the order in which they run.
    """
    calls: list[tuple[nn.Module, tuple]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: calls.append((module, args)))
        for module in modules
    ]
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            backbone(image)
    finally:
        backbone.train(was_training)
        for handle in handles:
            handle.remove()
    return calls
