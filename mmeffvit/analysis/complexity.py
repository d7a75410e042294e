"""Parameters and multiply-accumulates (MACs) of backbones and detectors, attention included.

A network is run once on torch's ``meta`` device, which computes shapes and no values, so that
800x1344 costs no more than 224x224. `torch.utils.flop_counter.FlopCounterMode` sees every operator,
also the two products inside ``scaled_dot_product_attention``, which counters built on module hooks
leave out; the formula that torch's counter lacks for the CPU's attention kernel is added here.

What is counted, by kind:

============ =====================================================================================
conv         convolutions, 1x1 ones included
linear       products with a weight matrix (``mm``, ``addmm``)
attention    products of two activations (``bmm`` and fused attention): q k^T, p v
norm         fvcore's estimate, 5 per element of a LayerNorm or GroupNorm and 2 of an evaluated
             BatchNorm; no part of the total, only used to compare with the papers' figures
============ =====================================================================================

Softmax, GELU, rotary position, pooling, sorting and gathers are not counted.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmeffvit.models.meta import RememberedShapes
from mmeffvit.models.network import input_channels

aten = torch.ops.aten

COUNTER = "torch.utils.flop_counter, attention included; 1 MAC = 1 multiply and 1 add"

MAC_KINDS = ("conv", "linear", "attention")
"""Kinds that make up `Complexity.total_macs`."""

# what the papers count, after mmdet 2's get_flops
NUM_PROPOSALS = 1000
NUM_MASKS = 100


@dataclass(frozen=True)
class Complexity:
    """What one forward pass costs.

    Attributes:
        name: What was counted.
        input_shape: (B, C, H, W) of the input.
        params: Parameters per component.
        macs: MACs per component and kind; see the module's docstring for the kinds.
        counter: How it was counted.
    """

    name: str
    input_shape: tuple[int, ...]
    params: dict[str, int]
    macs: dict[str, dict[str, int]]
    counter: str = COUNTER
    notes: tuple[str, ...] = field(default=())

    def macs_of(self, *kinds: str) -> int:
        """Sum over components of the MACs of the given kinds."""
        return sum(counts.get(kind, 0) for counts in self.macs.values() for kind in kinds)

    @property
    def total_params(self) -> int:
        return sum(self.params.values())

    @property
    def total_macs(self) -> int:
        """Convolutions, products with weights, and products of attention."""
        return self.macs_of(*MAC_KINDS)

    @property
    def attention_share(self) -> float:
        """Part of `total_macs` that multiplies two activations, between 0 and 1."""
        return self.macs_of("attention") / self.total_macs if self.total_macs else 0.0

    @property
    def fvcore_total(self) -> int:
        """The figure fvcore gives, up to global pooling: `total_macs` and its estimate for norms.

        Classification papers of this family print this number divided by 2^30 as "GFLOPs".
        """
        return self.macs_of(*MAC_KINDS, "norm")

    @property
    def macs_without_attention(self) -> int:
        """Convolutions and products with weights only.

        Detection papers that count with mmcv's module hooks print this number divided by 10^9.
        """
        return self.macs_of("conv", "linear")

    def to_dict(self) -> dict[str, Any]:
        """Everything above as plain types, for JSON."""
        return {
            **asdict(self),
            "total_params": self.total_params,
            "total_macs": self.total_macs,
            "attention_share": self.attention_share,
            "fvcore_total": self.fvcore_total,
            "macs_without_attention": self.macs_without_attention,
        }


def count_complexity(
    model: nn.Module,
    size: tuple[int, int],
    *,
    batch_size: int = 1,
    name: str | None = None,
    device: str = "meta",
) -> Complexity:
    """Count a module that takes an image batch, such as a backbone or a classifier.

    Args:
        model: Any module with ``forward(x: (B, C, H, W))``, C being what its backbone or its first
            convolution takes. It is not changed.
        size: Height and width of the input in pixels.
        batch_size: Images in the input.
        name: What to call it; the class's name by default.
        device: ``"meta"``, or ``"cpu"`` for a network whose control flow depends on values.

    Returns:
        Components are the module's children; of a ``ModuleList`` its entries (``stages.0`` ...).
    """
    shape = _input_shape(size, batch_size, input_channels(model))
    with _evaluated(model, device) as twin:
        counted = _count(twin, torch.zeros(shape, device=device))
    components = _component_names(twin)
    params = {key: _num_params(twin.get_submodule(key)) for key in components}
    macs = {key: _macs_under(counted.by_module, key) for key in components}
    # parameters and products outside of every child, such as a position table of the model itself
    _add_rest(params, _num_params(twin))
    _add_rest_macs(macs, counted.total)
    return Complexity(name or type(model).__name__, shape, params, macs)


def count_detector(
    model: nn.Module,
    size: tuple[int, int],
    *,
    name: str | None = None,
    num_proposals: int = NUM_PROPOSALS,
    num_masks: int = NUM_MASKS,
    device: str = "meta",
) -> Complexity:
    """Count an mmdet detector part by part: backbone, neck, dense head, box heads, mask heads.

    Box heads are counted on `num_proposals` regions and mask heads on `num_masks`, as the papers
    do, because the real numbers depend on the image. RoIAlign, NMS and losses are not counted.

    Args:
        model: An mmdet ``SingleStageDetector`` or ``TwoStageDetector``. It is not changed.
        size: Height and width of the padded input in pixels.
        name: What to call it; the class's name by default.
        num_proposals: Regions that every box head gets.
        num_masks: Regions that every mask head gets.
        device: As in `count_complexity`.

    Raises:
        TypeError: If the model has no ``backbone``.
    """
    if not hasattr(model, "backbone"):
        raise TypeError(
            f"{type(model).__name__} has no backbone; count_detector takes detectors of mmdet, and "
            "count_complexity takes any module that is called with an image batch"
        )
    shape = _input_shape(size, 1, input_channels(model))
    twin = _twin(model, device)
    macs: dict[str, dict[str, int]] = {}
    notes = []

    def run(key: str, module: nn.Module, *inputs: Any) -> Any:
        counted = _count(module, *inputs)
        macs[key] = counted.total
        return counted.output

    features = run("backbone", twin.backbone, torch.zeros(shape, device=device))
    if getattr(twin, "neck", None) is not None:
        features = run("neck", twin.neck, features)
    for key in ("rpn_head", "bbox_head"):
        head = getattr(twin, key, None)
        if head is not None:
            run(key, head, features)
    roi_head = getattr(twin, "roi_head", None)
    if roi_head is not None:
        for key, extractor, regions in (
            ("bbox_head", "bbox_roi_extractor", num_proposals),
            ("mask_head", "mask_roi_extractor", num_masks),
        ):
            heads, extractors = _as_list(roi_head, key), _as_list(roi_head, extractor)
            for stage, head in enumerate(heads):
                extractor_of_stage = extractors[min(stage, len(extractors) - 1)]
                suffix = f".{stage}" if len(heads) > 1 else ""
                inputs = torch.zeros(regions, *_region_shape(extractor_of_stage), device=device)
                run(f"roi_head.{key}{suffix}", head, inputs)
        notes.append(
            f"box heads on {num_proposals} regions, mask heads on {num_masks}, as the papers count"
        )
    params = {key: _num_params(twin.get_submodule(key)) for key in macs}
    _add_rest(params, _num_params(twin))
    return Complexity(name or type(model).__name__, shape, params, macs, notes=tuple(notes))


def format_table(complexity: Complexity) -> str:
    """A table for people: one line per component, then the totals in every way of counting."""
    lines = [
        f"{complexity.name}, input {'x'.join(map(str, complexity.input_shape))}",
        f"counter: {complexity.counter}",
        *(f"note: {note}" for note in complexity.notes),
        "",
        f"{'component':<24}{'parameters':>14}{'MACs (G)':>12}{'attention (G)':>15}",
    ]
    for key in complexity.params:
        macs = complexity.macs.get(key, {})
        total = sum(macs.get(kind, 0) for kind in MAC_KINDS)
        lines.append(
            f"{key:<24}{complexity.params[key]:>14,}{total / 1e9:>12.3f}"
            f"{macs.get('attention', 0) / 1e9:>15.3f}"
        )
    attention = complexity.macs_of("attention")
    lines += [
        f"{'total':<24}{complexity.total_params:>14,}{complexity.total_macs / 1e9:>12.3f}"
        f"{attention / 1e9:>15.3f}",
        "",
        f"attention products: {complexity.attention_share:.1%} of all MACs",
        "as papers count: classification (fvcore, with norms, / 2^30) "
        f"{complexity.fvcore_total / 2**30:.3f} G; detection (no attention products, / 10^9) "
        f"{complexity.macs_without_attention / 1e9:.1f} G",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Counted:
    output: Any
    total: dict[str, int]
    by_module: dict[str, dict[str, int]]


def _elements_of_first(weight: int) -> Callable[..., int]:
    def formula(x_shape, *args, out_shape=None, **kwargs) -> int:
        return weight * prod(x_shape)

    return formula


def _attention(q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(q_shape, k_shape, v_shape)


_layer_norm, _batch_norm = _elements_of_first(5), _elements_of_first(2)

_KINDS: dict[Any, str] = {
    aten.convolution: "conv",
    aten._convolution: "conv",
    aten.cudnn_convolution: "conv",
    aten._slow_conv2d_forward: "conv",
    aten.mm: "linear",
    aten.addmm: "linear",
    aten.bmm: "attention",
    aten.baddbmm: "attention",
    aten._scaled_dot_product_flash_attention: "attention",
    aten._scaled_dot_product_efficient_attention: "attention",
    aten._scaled_dot_product_cudnn_attention: "attention",
    aten._scaled_dot_product_flash_attention_for_cpu: "attention",
    aten.native_layer_norm: "norm",
    aten.native_group_norm: "norm",
    aten.native_batch_norm: "norm",
    aten._native_batch_norm_legit: "norm",
    aten._native_batch_norm_legit_no_training: "norm",
}

_EXTRA_FORMULAS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten.native_layer_norm: _layer_norm,
    aten.native_group_norm: _layer_norm,
    aten.native_batch_norm: _batch_norm,
    aten._native_batch_norm_legit: _batch_norm,
    aten._native_batch_norm_legit_no_training: _batch_norm,
}


def _count(module: nn.Module, *inputs: Any) -> _Counted:
    counter = FlopCounterMode(display=False, custom_mapping=_EXTRA_FORMULAS)
    with torch.no_grad(), RememberedShapes(), counter:
        output = module(*inputs)
    counts = counter.get_flop_counts()
    root = type(module).__name__
    by_module = {
        key.removeprefix(f"{root}."): _by_kind(ops) for key, ops in counts.items() if "." in key
    }
    return _Counted(output, _by_kind(counts.get("Global", {})), by_module)


def _by_kind(ops: dict[Any, int]) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for op, count in ops.items():
        kind = _KINDS.get(op)
        if kind is None:
            raise RuntimeError(
                f"{op} is counted by torch but is of no kind known here; add it to "
                "mmeffvit.analysis.complexity._KINDS"
            )
        # torch counts a multiply and an add as two; the estimates are in the papers' unit already
        kinds[kind] += count // 2 if kind in MAC_KINDS else count
    return dict(kinds)


def _macs_under(by_module: dict[str, dict[str, int]], prefix: str) -> dict[str, int]:
    if prefix in by_module:
        return by_module[prefix]
    # a module whose children are called one by one from outside, such as a stage
    below = [key for key in by_module if key.startswith(f"{prefix}.")]
    topmost = [key for key in below if not any(key.startswith(f"{other}.") for other in below)]
    total: Counter[str] = Counter()
    for key in topmost:
        total.update(by_module[key])
    return dict(total)


def _input_shape(size: tuple[int, int], batch_size: int, channels: int) -> tuple[int, ...]:
    height, width = size
    if min(height, width, batch_size) < 1:
        raise ValueError(
            f"size {height}x{width}, batch {batch_size}: give a height, a width and a batch size "
            "of at least 1"
        )
    return (batch_size, channels, height, width)


@contextmanager
def _evaluated(model: nn.Module, device: str) -> Iterator[nn.Module]:
    """A copy on a device, in evaluation; the model itself, for a while, where all of it is meta."""
    tensors = (*model.parameters(), *model.buffers())
    if device != "meta" or not all(tensor.is_meta for tensor in tensors):
        yield _twin(model, device)
        return
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def _twin(model: nn.Module, device: str) -> nn.Module:
    # a copy, because moving to meta drops the weights
    twin = copy.deepcopy(model).to(device)
    twin.eval()  # on a line of its own: the train() of several mmdet backbones returns None
    return twin


def _component_names(model: nn.Module) -> list[str]:
    names = []
    for key, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            names += [f"{key}.{index}" for index in range(len(child))]
        else:
            names.append(key)
    return names


def _num_params(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def _add_rest(params: dict[str, int], total: int) -> None:
    rest = total - sum(params.values())
    if rest:
        params["(other)"] = rest


def _add_rest_macs(macs: dict[str, dict[str, int]], total: dict[str, int]) -> None:
    rest = Counter(total)
    for counts in macs.values():
        rest.subtract(counts)
    rest = {kind: count for kind, count in rest.items() if count}
    if rest:
        macs["(other)"] = rest


def _as_list(parent: nn.Module, key: str) -> list[nn.Module]:
    child = getattr(parent, key, None)
    if child is None:
        return []
    return list(child) if isinstance(child, nn.ModuleList) else [child]


def _region_shape(extractor: nn.Module) -> tuple[int, int, int]:
    output_size = extractor.roi_layers[0].output_size
    height, width = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    return extractor.out_channels, height, width
