"""What every backbone promises; a new one is enrolled by being registered.

The tests ask a network what it has (`stage_channels`, `stage_strides`, `frozen_modules` ...) and
assume no names of modules.
"""

import functools

import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmeffvit import create_backbone, list_backbones
from mmeffvit.models.backbones import BaseBackbone, Pyramid
from mmeffvit.models.zoo import backbone_classes, split_name
from mmeffvit.testing import small_arch
from mmeffvit.testing.families import FAMILIES, GoldenFamily


def class_of(name):
    return backbone_classes()[split_name(name)[0]]


def width(name):
    dims = small_arch(name)["embed_dims"]
    return sum(dims) if isinstance(dims, tuple) else dims


def distinct_structures():
    """The narrowest of each structure: variants of other sizes or values are alike."""
    sizes = ("embed_dims", "depths", "num_heads", "mlp_ratio", "mlp_ratios", "kernel_size")
    values = ("decay_inits", "decay_ranges")
    chosen = {}
    for name in sorted(list_backbones(), key=width, reverse=True):
        arch = small_arch(name)
        structure = {key: arch[key] for key in arch.keys() - {*sizes, *values, "layer_scale"}}
        scales = arch.get("layer_scale")
        scaled = [s is not None for s in (scales if isinstance(scales, tuple) else (scales,))]
        chosen[split_name(name)[0], repr(sorted(structure.items())), str(scaled)] = name
    return sorted(chosen.values())


STRUCTURES = distinct_structures()
#: one of each class, for what no structure changes
CLASSES = list({split_name(name)[0]: name for name in STRUCTURES}.values())
of_each_class = pytest.mark.parametrize("name", CLASSES)

SIZES = [(64, 64), (96, 64), (33, 50), (32, 127)]


def build(name, **kwargs):
    torch.manual_seed(0)
    return class_of(name)(arch=small_arch(name), **kwargs)


def without_memory(name, **kwargs):
    with torch.device("meta"):
        return build(name, **kwargs)


@functools.cache
def shared(name):
    """A network for tests that change nothing in it, in evaluation."""
    with torch.random.fork_rng(devices=()):
        return build(name).eval()


@functools.lru_cache(maxsize=16)
def at_full_size(name):
    with torch.device("meta"):
        return create_backbone(name)


def shapes(name):
    return {key: value.shape for key, value in at_full_size(name).state_dict().items()}


def some_indices(name):
    """Choices of outputs: one of the first, of the last, a few, all."""
    count = shared(name).num_stages
    return [(0,), (count - 1,), (0, count - 1), tuple(range(1, count)), tuple(range(count))]


@pytest.fixture(params=STRUCTURES)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=list_backbones())
def full_name(request):
    """Of the module, so that both tests of a name follow each other and share the network."""
    return request.param


def test_named_variants_are_built_by_name(full_name):
    backbone = at_full_size(full_name)
    assert len(backbone.stage_channels) == len(backbone.stage_strides)
    assert backbone.arch == class_of(full_name).arch_zoo[backbone.arch_name]
    if isinstance(backbone, Pyramid):
        assert backbone.out_channels == tuple(backbone.arch["embed_dims"])
        depths = [len(stage.blocks) for stage in backbone.stages]
        assert depths == list(backbone.arch["depths"])
    assert backbone.drop_path_rate == backbone.drop_path_rates[backbone.arch_name]


def test_variants_are_recognised_by_their_weights(full_name):
    family, _ = split_name(full_name)
    cls = class_of(full_name)
    state = {f"{cls.prefix}{k}": v for k, v in at_full_size(full_name).state_dict().items()}
    # variants that differ in what has no weights are alike
    own = shapes(full_name)
    same = [other for other in cls.arch_zoo if shapes(f"{family}-{other}") == own]
    assert cls.variant_of_weights(state) in same
    key = next(iter(state))
    assert cls.variant_of_weights({**state, f"{cls.prefix}other": state[key]}) is None
    assert cls.variant_of_weights({**state, key: state[key][None]}) is None
    half = dict(list(state.items())[: len(state) // 2])
    assert cls.variant_of_weights(half) is None
    del state[key]
    assert cls.variant_of_weights(state) in same


@pytest.mark.parametrize("size", SIZES)
def test_shapes_follow_channels_and_strides(name, size):
    backbone = shared(name)
    with torch.no_grad():
        outs = backbone(torch.randn(2, 3, *size))
    assert isinstance(outs, tuple)
    for out, channels, stride in zip(
        outs, backbone.out_channels, backbone.out_strides, strict=True
    ):
        assert out.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all()


def test_out_indices_select_the_same_maps(name):
    *choices, every = some_indices(name)
    full = build(name, out_norm=False, out_indices=every).eval()
    x = torch.randn(1, 3, 64, 40)
    with torch.no_grad():
        maps = full(x)
    for indices in choices:
        part = build(name, out_indices=indices, out_norm=False).eval()
        result = part.load_state_dict(full.state_dict(), strict=False)
        assert not result.missing_keys
        assert part.out_channels == tuple(full.stage_channels[i] for i in indices)
        assert part.out_strides == tuple(full.stage_strides[i] for i in indices)
        with torch.no_grad():
            for actual, index in zip(part(x), indices, strict=True):
                assert torch.equal(actual, maps[index])


@pytest.mark.parametrize(
    ("choice", "out_norm"), [(0, True), (1, False), (2, True), (4, True), (4, False)]
)
def test_every_parameter_is_used(name, choice, out_norm):
    """With output norms and without, whatever is returned: two of every pair of choices."""
    backbone = build(name, out_indices=some_indices(name)[choice], out_norm=out_norm)
    sum(
        (out * torch.randn_like(out)).sum() for out in backbone(torch.randn(2, 3, 64, 64))
    ).backward()
    unused = [key for key, p in backbone.named_parameters() if p.grad is None]
    assert not unused
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_out_norm_of_a_pyramid_is_a_layer_norm_over_channels(name):
    normed = shared(name)
    if not isinstance(normed, Pyramid):
        pytest.skip("only pyramids promise which norm it is")
    raw = build(name, out_norm=False).eval()
    raw.load_state_dict(normed.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    for actual, plain in zip(normed(x), raw(x), strict=True):
        centred = plain - plain.mean(1, keepdim=True)
        variance = plain.var(1, keepdim=True, unbiased=False)
        eps = normed.out_norm_eps
        torch.testing.assert_close(actual, centred / (variance + eps).sqrt(), atol=1e-4, rtol=1e-4)


def test_checkpointing_changes_nothing(name):
    plain, recomputed = (
        build(name, drop_path_rate=0.3),
        build(name, drop_path_rate=0.3, with_cp=True),
    )
    x = torch.randn(3, 3, 64, 48)
    results = []
    for backbone in (plain, recomputed):
        torch.manual_seed(1)
        outs = backbone.train()(x)
        sum(out.square().sum() for out in outs).backward()
        results.append((outs, [p.grad for p in backbone.parameters()]))
    for actual, expected in zip(results[1][0], results[0][0], strict=True):
        assert torch.equal(actual, expected)
    for actual, expected in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(actual, expected)


def test_freezing(name):
    """More is frozen with every stage, what is frozen is what `frozen_modules` says, at rest."""
    count = shared(name).num_built_stages
    before = None
    for frozen_stages in range(-1, count + 1):
        backbone = without_memory(name, frozen_stages=frozen_stages).train()
        frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
        if before is None:
            assert not frozen
        else:
            assert before < frozen or (before == frozen and frozen_stages > 1)
        before = frozen
        depths = {key: backbone.get_layer_depth(key)[0] for key, _ in backbone.named_parameters()}
        if frozen and frozen_stages == 0:
            assert {depths[key] for key in frozen} == {0}
        if isinstance(backbone, Pyramid):
            prefixes = ["stem."] if frozen_stages >= 0 else []
            for i in range(frozen_stages):
                prefixes += [f"stages.{i}.", f"out_norms.{i}."]
            expected = {k for k, _ in backbone.named_parameters() if k.startswith(tuple(prefixes))}
            assert frozen == (expected if prefixes else set())
    assert not any(m.training for module in backbone.frozen_modules() for m in module.modules())


@pytest.mark.parametrize(
    ("name", "frozen_stages"),
    [(name, -1) for name in CLASSES] + [(name, i) for name in STRUCTURES for i in (0, 1)],
)
def test_frozen_statistics_rest(name, frozen_stages):
    backbone = build(name, frozen_stages=frozen_stages).train()
    at_rest = {m for module in backbone.frozen_modules() for m in module.modules()}
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    before = [m.running_mean.clone() for m in norms]
    outs = backbone(torch.randn(2, 3, 64, 64))
    sum(out.sum() for out in outs if out.requires_grad).backward()
    for norm, mean in zip(norms, before):
        assert torch.equal(norm.running_mean, mean) == (norm in at_rest)
    for p in backbone.parameters():
        assert (p.grad is not None) == p.requires_grad


@of_each_class
def test_norm_eval_keeps_statistics(name):
    backbone = without_memory(name, norm_eval=True).train()
    assert not any(m.training for m in backbone.modules() if isinstance(m, _BatchNorm))
    assert backbone.training
    assert all(m.training for m in without_memory(name).train().modules())


def test_layers_get_deeper(name):
    backbone = shared(name)
    depths = [backbone.get_layer_depth(f"b.{key}", "b.") for key, _ in backbone.named_parameters()]
    count = depths[0][1]
    assert {n for _, n in depths} == {count}
    assert {d for d, _ in depths} <= set(range(count))
    assert 0 in {d for d, _ in depths}
    assert backbone.get_layer_depth("neck.weight", "b.")[0] == count - 1


def test_published_classifier(name):
    cls = class_of(name)
    if cls.make_head is BaseBackbone.make_head:
        with pytest.raises(ValueError, match=f"no classifiers of {cls.__name__} were published"):
            shared(name).make_head(7)
        return
    backbone = build(name, **cls.classifier_options).eval()
    head = backbone.make_head(7).eval()
    assert isinstance(head, nn.Module)
    assert head(backbone(torch.randn(2, 3, 64, 64))).shape == (2, 7)


def test_state_dict_round_trip(name):
    first, second = shared(name), build(name).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(torch.randn_like(p))
        outs = first(x)
        assert not torch.equal(outs[-1], second(x)[-1])
        second.load_state_dict(first.state_dict())
        for actual, expected in zip(second(x), outs, strict=True):
            assert torch.equal(actual, expected)


@of_each_class
def test_built_from_a_toolbox_config(name):
    cls = class_of(name)
    config = {"type": f"mmeffvit.{cls.__name__}", "arch": small_arch(name), "out_indices": (0, 1)}
    assert isinstance(MMENGINE_MODELS.build(config), cls)


def test_autocast_stays_close_to_float32(name):
    # in training mode, as the untrained statistics of batch norms would let activations vanish
    backbone = build(name, drop_path_rate=0.0).train()
    tolerance = FAMILIES.get(backbone.family, GoldenFamily).autocast_tolerance
    x = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        expected = backbone(x)
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                outs = backbone(x)
            for actual, reference in zip(outs, expected, strict=True):
                assert actual.isfinite().all(), dtype
                # tokens close to a cluster's border may change sides, which is why this is a mean
                difference = (actual.float() - reference).abs().mean() / reference.abs().mean()
                assert difference < tolerance, dtype


@torch.no_grad()
def test_channels_last_and_contiguous_inputs_agree(name):
    backbone = shared(name)
    x = torch.randn(2, 3, 40, 72)
    for actual, expected in zip(
        backbone(x.contiguous(memory_format=torch.channels_last)), backbone(x), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix(name):
    backbone = shared(name)
    x = torch.randn(3, 3, 64, 48)
    alone = backbone(x[1:2])
    for actual, expected in zip(backbone(x), alone, strict=True):
        torch.testing.assert_close(actual[1:2], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_nan_in_one_image_is_visible_and_stays_in_it(name):
    backbone = shared(name)
    x = torch.randn(2, 3, 64, 64)
    clean = backbone(x)
    x[0, 0, 10, 10] = float("nan")
    for out, expected in zip(backbone(x), clean, strict=True):
        assert out[0].isnan().any()
        torch.testing.assert_close(out[1], expected[1], atol=1e-4, rtol=1e-4)


@of_each_class
class TestErrors:
    def test_unknown_variant(self, name):
        cls = class_of(name)
        close = next(iter(cls.arch_zoo))
        with pytest.raises(ValueError, match=rf"no variant '{close}y'; it has .*did you mean '"):
            cls(arch=f"{close}y")

    def test_wrong_keys(self, name):
        cls = class_of(name)
        arch = small_arch(name)
        key = next(reversed(arch))
        del arch[key]
        with pytest.raises(ValueError, match=f"missing: {key}; unknown: layers"):
            cls(arch={**arch, "layers": (1, 1, 1, 1)})

    def test_wrong_type(self, name):
        cls = class_of(name)
        with pytest.raises(TypeError, match="a name or a dict, got int"):
            cls(arch=3)

    def test_wrong_length(self, name):
        cls = class_of(name)
        if not issubclass(cls, Pyramid):
            pytest.skip("only pyramids have keys of one entry per stage")
        for key in cls.stage_keys:
            for wrong in ((1, 1), 3, "abcd"):
                match = rf"arch\['{key}'\].*each of the 4 stages, got"
                with pytest.raises(ValueError, match=match):
                    cls(arch={**small_arch(name), key: wrong})

    @pytest.mark.parametrize("indices", [(), (99,), (-1,), (2, 1), (1, 1)])
    def test_out_indices(self, name, indices):
        last = shared(name).num_stages - 1
        with pytest.raises(ValueError, match=rf"ascending .* out of 0..{last}"):
            build(name, out_indices=indices)

    def test_frozen_stages_beyond_what_is_built(self, name):
        with pytest.raises(ValueError, match="frozen_stages=99 is not possible"):
            build(name, out_indices=(0, 1), frozen_stages=99)

    @pytest.mark.parametrize("rate", [-0.1, 1])
    def test_drop_path_rate(self, name, rate):
        with pytest.raises(ValueError, match=rf"drop_path_rate must be in \[0, 1\), got {rate}"):
            build(name, drop_path_rate=rate)

    @pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 4, 64, 64), (3, 64, 64)])
    def test_channels(self, name, shape):
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got"):
            shared(name)(torch.randn(*shape))

    def test_small_images(self, name):
        backbone = shared(name)
        least = backbone.min_size
        assert least <= 32
        for size in ((least - 1, 64), (64, least // 2)):
            match = f"at least {least} x {least} pixels, got {size[0]} x {size[1]}"
            with pytest.raises(ValueError, match=match):
                backbone(torch.randn(1, 3, *size))
