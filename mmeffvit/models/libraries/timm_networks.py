"""Networks of timm, by ``forward_intermediates``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mmeffvit.errors import did_you_mean
from mmeffvit.models.libraries.base import Library, Statistics

#: arguments with which networks take images of any size, where they have them
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmNetwork(Library):
    """A network of timm (``'convnextv2_tiny.fcmae_ft_in22k_in1k'``, ``'hf-hub:org/name'``)."""

    package: ClassVar[str] = "timm"

    def check(self) -> None:
        import timm

        if ":" in self.name or timm.is_model(self.name.partition(".")[0]):
            self._check_tag()
            return
        names = timm.list_models()
        hint = did_you_mean(self.name.partition(".")[0], names, most=3)
        raise ValueError(
            f"timm {timm.__version__} has no model '{self.name}'{hint} (timm.list_models() has all)"
        )

    def _check_tag(self) -> None:
        from timm.models import get_arch_pretrained_cfgs

        base, _, tag = self.name.partition(".")
        if ":" in self.name or not tag:
            return
        tags = [key.partition(".")[2] for key in get_arch_pretrained_cfgs(base)]
        if tag not in tags:
            raise ValueError(
                f"timm has no weights '{tag}' of {base}{did_you_mean(tag, tags)}; there are "
                f"{', '.join(filter(None, tags)) or 'none'}"
            )

    def make(self, pretrained: bool = False) -> nn.Module:
        import timm

        base = {"in_chans": self.in_channels, "pretrained": pretrained, **self.options}
        for any_size in _ANY_SIZE:
            try:
                return timm.create_model(self.name, **{**any_size, **base})
            except TypeError as error:
                if not any(f"'{key}'" in str(error) for key in any_size):
                    raise ValueError(
                        f"the options of timm's {self.name} are not possible: {error}"
                    ) from error
        raise AssertionError("the last try has no argument of ours")

    def keep(self, network: nn.Module, indices: Sequence[int]) -> None:
        pruned = {"prune_norm": not self.out_norm, "prune_head": True}
        network.prune_intermediate_layers(list(indices), **pruned)

    def maps(self, network: nn.Module, x: Tensor, indices: Sequence[int]) -> Sequence[Tensor]:
        return network.forward_intermediates(
            x,
            indices=list(indices),
            norm=self._norms(network),
            output_fmt="NCHW",
            intermediates_only=True,
        )

    def _norms(self, network: nn.Module) -> bool:
        norm = getattr(network, "norm", None)
        return self.out_norm and norm is not None and not isinstance(norm, nn.Identity)

    def all_indices(self, network: nn.Module) -> tuple[int, ...]:
        return tuple(range(len(self._info(network))))

    def _info(self, network: nn.Module) -> Sequence[Mapping[str, Any]]:
        info = getattr(network, "feature_info", None)
        if not info or not hasattr(network, "forward_intermediates"):
            raise ValueError(
                f"timm's {self.name} has no feature maps (no forward_intermediates), so it cannot "
                "be a backbone; take another model"
            )
        return list(info)

    def levels(self, network: nn.Module) -> list[tuple[int, int]]:
        return [(info["num_chs"], info["reduction"]) for info in self._info(network)]

    def depths(self, network: nn.Module) -> tuple[dict[str, int], int]:
        from timm.models import group_parameters

        if not hasattr(network, "group_matcher"):
            return super().depths(network)
        groups = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
        return dict(groups), max(groups.values()) + 1

    def image_size(self, network: nn.Module) -> tuple[int, int]:
        size = self.options.get("img_size") or network.pretrained_cfg["input_size"][1:]
        return (size, size) if isinstance(size, int) else tuple(size)

    def takes_any_size(self, network: nn.Module) -> bool | None:
        embed = getattr(network, "patch_embed", None)
        if not network.pretrained_cfg.get("fixed_input_size"):
            return True
        return True if getattr(embed, "img_size", 0) is None else None

    def recompute(self, network: nn.Module) -> None:
        network.set_grad_checkpointing(True)

    def weights(self) -> Mapping[str, Tensor]:
        return self.make(pretrained=True).state_dict()

    def _published(self) -> Mapping[str, Any]:
        from timm.models import get_pretrained_cfg

        if ":" in self.name:
            return {}
        cfg = get_pretrained_cfg(self.name)
        return cfg.to_dict() if cfg is not None else {}

    def has_weights(self) -> bool:
        cfg = self._published()
        return ":" in self.name or any(cfg.get(key) for key in ("hf_hub_id", "url", "file"))

    def statistics(self) -> Statistics:
        cfg = self._published()
        if not cfg.get("mean"):
            return Statistics()
        scaled = (tuple(round(255 * value, 4) for value in cfg[key]) for key in ("mean", "std"))
        return Statistics(
            *scaled, origin=f"RGB images as the weights of timm's {self.name} expect them"
        )
