"""Networks of torchvision: their stages one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.libraries.base import Library, Statistics

#: children in which the stages are, one after another
_TRUNKS = ("features", "trunk_output", "blocks", "layers")
#: children with which the classifier begins
_CLASSIFIERS = ("avgpool", "classifier", "fc", "head", "heads", "norm", "permute")


class TorchvisionNetwork(Library):
    """A network of torchvision (``'resnet50'``, ``'swin_t.IMAGENET1K_V1'``)."""

    package: ClassVar[str] = "torchvision"

    def check(self) -> None:
        from torchvision import models

        self.model, _, self.tag = self.name.partition(".")
        names = models.list_models(module=models)
        if self.model not in names:
            hint = did_you_mean(self.model, names, most=3)
            raise ValueError(
                f"torchvision has no classifier '{self.model}'"
                + (hint or f"; there are {', '.join(names)}")
            )
        tags = [weights.name for weights in models.get_model_weights(self.model)]
        if self.tag and self.tag not in tags:
            raise ValueError(
                f"torchvision has no weights '{self.tag}' of {self.model}; there are "
                f"{', '.join(tags)}"
            )
        if self.in_channels != 3:
            raise ValueError(
                f"torchvision's networks take RGB images, got in_channels={self.in_channels}; "
                "networks of timm take any number of channels"
            )

    def make(self) -> nn.Module:
        from torchvision import models

        try:
            network = models.get_model(self.model, weights=None, **self.options)
        except TypeError as error:
            raise ValueError(
                f"the options of torchvision's {self.model} are not possible: {error}"
            ) from error
        return network

    def _steps(self, network: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
        """Parent, name and module of what an image goes through."""
        steps = []
        for name, child in network.named_children():
            if name in _CLASSIFIERS:
                break
            if name in _TRUNKS:
                steps += [(child, key, module) for key, module in child.named_children()]
            else:
                steps.append((network, name, child))
        return steps

    def _outputs(self, network: nn.Module, x: Tensor) -> list[Tensor]:
        outputs = []
        for _, _, module in self._steps(network):
            x = module(x)
            outputs.append(x)
        return outputs

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        """Steps that are the last ones of their stride, from stride 2 on."""
        image = torch.empty(1, 3, 224, 224, device="meta")
        try:
            with torch.no_grad(), torch.device("cpu"):
                sides = [self._nchw(network, x).shape[2] for x in self._outputs(network, image)]
        except Exception as error:  # whatever a step that is none of maps raises
            raise ValueError(
                f"torchvision's {self.model} does not make its maps one after another, so it "
                "cannot be a backbone; take another network, of timm for plain transformers"
            ) from error
        return tuple({side: step for step, side in enumerate(sides) if side <= 112}.values())

    @staticmethod
    def _nchw(network: nn.Module, x: Tensor) -> Tensor:
        from torchvision.models import SwinTransformer

        return x.permute(0, 3, 1, 2) if isinstance(network, SwinTransformer) else x

    def keep(self, network: nn.Module, indices: Sequence[int]) -> None:
        for parent, name, _ in reversed(self._steps(network)[indices[-1] + 1 :]):
            delattr(parent, name)
        for name, _ in list(network.named_children()):
            if name in _CLASSIFIERS:
                delattr(network, name)

    def maps(self, network: nn.Module, x: Tensor, indices: Sequence[int]) -> Sequence[Tensor]:
        outputs = self._outputs(network, x)
        return [self._nchw(network, outputs[i]) for i in indices]

    def depths(self, network: nn.Module) -> tuple[dict[str, int], int]:
        """The first step with weights, each block of a stage, what follows the last one."""
        paths = {module: path for path, module in network.named_modules()}
        units = [unit for _, _, step in self._steps(network) for unit in _blocks(step)]
        units = [paths[unit] for unit in units if any(True for _ in unit.parameters())]
        found = {}
        for name, _ in network.named_parameters():
            inside = (i for i, unit in enumerate(units) if name.startswith(f"{unit}."))
            found[name] = next(inside, len(units))
        return found, len(units) + 1

    def _published(self) -> Any:
        from torchvision import models

        return models.get_model_weights(self.model)[self.tag or "DEFAULT"]

    def has_weights(self) -> bool:
        from torchvision import models

        return len(models.get_model_weights(self.model)) > 0

    def weights(self) -> Mapping[str, Tensor]:
        return self._published().get_state_dict(progress=True, check_hash=True)

    def statistics(self) -> Statistics:
        if not self.has_weights():
            return Statistics()
        published = self._published()
        transforms = published.transforms()
        scaled = (
            tuple(round(255 * value, 4) for value in getattr(transforms, key))
            for key in ("mean", "std")
        )
        return Statistics(*scaled, origin=f"as {published} expects images")


def _blocks(step: nn.Module) -> list[nn.Module]:
    """The blocks of a stage, or the step itself if it is none."""
    children = list(step.children())
    alike = len({type(child) for child in children}) == 1 and any(children[0].children())
    return children if isinstance(step, nn.Sequential) and alike else [step]
