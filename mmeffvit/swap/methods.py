"""Models that do more with a backbone than ask it for maps: what a swap has to know of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmeffvit.configs import full_type, type_name
from mmeffvit.swap import upstream
from mmeffvit.swap.changes import Draft
from mmeffvit.swap.errors import SwapError
from mmeffvit.swap.measure import Level
from mmeffvit.swap.replacement import Replacement


class Method:
    """How most models use a backbone: an image goes in, and maps come out."""

    #: what wraps the new backbone
    wrapper = ""
    #: `BaseBackbone.map_edits` that will do
    edits: tuple[str | None, ...] = ()
    #: whether the model reads all maps, though it names no channels of theirs
    reads_all = False

    def usual(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """The config of an ordinary backbone with the maps of the old one, which is measured."""
        return dict(old)

    def places(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """The maps of the old backbone, at the strides at which new ones are looked for."""
        return levels

    def fit(self, draft: Draft, new: Replacement) -> Replacement:
        """The new backbone as the model uses it; what else needs a change is changed.

        Raises:
            SwapError: The model cannot use it.
        """
        return new

    def _wrapped(self, new: Replacement, **arguments: Any) -> dict[str, Any]:
        if getattr(new.network, "map_edits", None) not in self.edits:
            needed = "a pyramid" if self.edits == ("blocks",) else "a pyramid or a plain ViT"
            raise SwapError(
                f"{type(new.network).__name__} cannot be swapped in: {self.wrapper} changes maps "
                f"inside of its backbone, for which this package needs {needed} of its own."
            )
        return {"type": f"mmeffvit.{self.wrapper}", "backbone": new.config, **arguments}


class _Recursive(Method):
    """DetectoRS: the neck holds a second backbone, to which its levels are fed back."""

    wrapper = "RecursivePyramid"
    edits = ("blocks",)

    def usual(self, old: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in old.items() if key != "output_img"}

    def fit(self, draft: Draft, new: Replacement) -> Replacement:
        first = self._wrapped(new, output_img=True)
        _same_strides(self, new)
        place = draft.own("neck", "rfp_backbone")
        second = draft.get(place)
        channels = second.get("feedback_channels", second.get("rfp_inplanes"))
        second = self._wrapped(new, feedback_channels=channels)
        draft.set(place, second, "it looks a second time, and reads what the neck made at first")
        return dataclasses.replace(new, config=first)


class _Masked(Method):
    """SimMIM: a mask comes with the image, and one map is decoded."""

    wrapper = "MaskedBackbone"
    edits = ("blocks", "stem")

    def places(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        # the last map of any network can be decoded
        return (*levels[:-1], Level(levels[-1].channels, 32))

    def fit(self, draft: Draft, new: Replacement) -> Replacement:
        config = self._wrapped(new)
        stride = new.network.out_strides[-1]
        why = "stride of the map that is decoded"
        draft.set(draft.own("neck", "encoder_stride"), stride, why)
        maps = tuple(
            dataclasses.replace(
                m,
                old=dataclasses.replace(m.old, stride=stride, dilation=1),
                new=dataclasses.replace(m.new, stride=stride),
            )
            for m in new.maps
        )
        return dataclasses.replace(new, config=config, maps=maps, neck=None)


class _Sparse(Method):
    """SparK: masked patches are zero, and each map is decoded; channels double from map to map."""

    wrapper = "SparseBackbone"
    edits = ("blocks",)
    reads_all = True

    def fit(self, draft: Draft, new: Replacement) -> Replacement:
        _same_strides(self, new)
        channels = new.network.out_channels
        halvings = 2 ** (len(channels) - 1)
        last = -(-channels[-1] // halvings) * halvings
        wanted = [last >> i for i in reversed(range(len(channels)))]
        arguments: dict[str, Any] = {}
        if list(channels) != wanted:
            arguments["out_channels"] = wanted
        ratio = draft.get(draft.own("downsample_raito"), 32)  # upstream's spelling
        config = self._wrapped(new, patch_size=ratio, **arguments)
        draft.set(draft.own("enc_dec_norm_dim"), last, "channels of the last of the new maps")
        return dataclasses.replace(new, config=config)


def _same_strides(method: Method, new: Replacement) -> None:
    if any(m.old.stride != m.new.stride for m in new.maps) or new.neck is not None:
        old, strides = ([getattr(m, side).stride for m in new.maps] for side in ("old", "new"))
        raise SwapError(
            f"{method.wrapper} needs maps of strides {old}, and {type(new.network).__name__} has "
            f"{list(new.network.out_strides) if new.neck else strides}; take a pyramid that has "
            "them all."
        )


#: class of a model, or of its first neck -> how it uses the backbone
_METHODS: dict[str, Method] = {
    "RFP": _Recursive(),
    "SimMIM": _Masked(),
    "SparK": _Sparse(),
}


def method_of(draft: Draft) -> Method:
    """How the owner of the backbone that is swapped uses it."""
    for place in (draft.own("neck"), draft.owner):
        found = _METHODS.get(type_name(draft.get(place)))
        if found is not None:
            return found
    return Method()


def usual_backbone(method: Method, old: Mapping[str, Any]) -> dict[str, Any]:
    """An ordinary backbone with the maps of an old one: without wrappers, and with dense layers."""
    if type_name(old) == method.wrapper:
        return dict(old["backbone"])
    old = method.usual(old)
    scope, dot, name = full_type(old).rpartition(".")
    if name not in upstream.USUAL:
        return old
    usual = upstream.USUAL[name]
    kept = {key: value for key, value in old.items() if key not in upstream.UNUSUAL_KEYS}
    if usual in upstream.POOLING:
        kept[upstream.POOLS] = False
    return {**kept, "type": f"{scope}{dot}{usual}"}
