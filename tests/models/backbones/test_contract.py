"""What every backbone promises; a new one is enrolled by being registered."""

import copy

import pytest
import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from mmeffvit import create_backbone, list_backbones
from mmeffvit.models.zoo import backbone_classes


def distinct_structures():
    """One name of each family for every structure: variants of other sizes are alike."""
    chosen = {}
    for name in reversed(list_backbones()):
        family, _, variant = name.partition("-")
        arch = backbone_classes()[family].arch_zoo[variant]
        sizes = ("embed_dims", "depths", "num_heads")
        structure = {key: value for key, value in arch.items() if key not in sizes}
        chosen[family, repr(structure)] = name
    return sorted(chosen.values())


SIZES = [(64, 64), (96, 64), (33, 50), (32, 127)]


def shrunk_arch(name, depth=1):
    """The variant with one block per stage (two in the third) and a quarter of the channels."""
    family, _, variant = name.partition("-")
    arch = copy.deepcopy(backbone_classes()[family].arch_zoo[variant])
    arch["depths"] = tuple(depth + (i == 2) for i in range(len(arch["depths"])))
    arch["embed_dims"] = tuple(dim // 4 for dim in arch["embed_dims"])
    return arch


def build(name, **kwargs):
    torch.manual_seed(0)
    return backbone_classes()[name.partition("-")[0]](arch=shrunk_arch(name), **kwargs)


@pytest.fixture(params=distinct_structures())
def name(request):
    return request.param


@pytest.mark.parametrize("name", list_backbones())
def test_named_variants_are_built_by_name(name):
    with torch.device("meta"):
        backbone = create_backbone(name)
    arch = backbone.arch
    assert backbone.out_channels == tuple(arch["embed_dims"])
    assert [len(stage.blocks) for stage in backbone.stages] == list(arch["depths"])
    assert backbone.drop_path_rate == backbone.drop_path_rates[backbone.arch_name]


@pytest.mark.parametrize("size", SIZES)
def test_shapes_follow_channels_and_strides(name, size):
    backbone = build(name).eval()
    outs = backbone(torch.randn(2, 3, *size))
    assert isinstance(outs, tuple)
    for out, channels, stride in zip(
        outs, backbone.out_channels, backbone.out_strides, strict=True
    ):
        assert out.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all()


@pytest.mark.parametrize("indices", [(0,), (1,), (3,), (1, 3), (1, 2, 3)])
def test_out_indices_select_the_same_maps(name, indices):
    full, part = (
        build(name, out_norm=False).eval(),
        build(name, out_indices=indices, out_norm=False),
    )
    part.eval()
    result = part.load_state_dict(full.state_dict(), strict=False)
    assert not result.missing_keys
    assert part.out_channels == tuple(full.out_channels[i] for i in indices)
    assert part.out_strides == tuple(full.out_strides[i] for i in indices)
    x = torch.randn(1, 3, 64, 40)
    for actual, index in zip(part(x), indices, strict=True):
        assert torch.equal(actual, full(x)[index])


@pytest.mark.parametrize("out_norm", [True, False])
@pytest.mark.parametrize("indices", [(0,), (2,), (0, 3), (0, 1, 2, 3)])
def test_every_parameter_is_used(name, indices, out_norm):
    backbone = build(name, out_indices=indices, out_norm=out_norm)
    sum(
        (out * torch.randn_like(out)).sum() for out in backbone(torch.randn(2, 3, 64, 64))
    ).backward()
    unused = [key for key, p in backbone.named_parameters() if p.grad is None]
    assert not unused
    assert all(p.grad.isfinite().all() for p in backbone.parameters())


def test_out_norm_is_a_layer_norm_over_channels(name):
    normed, raw = build(name).eval(), build(name, out_norm=False).eval()
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


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 3, 4])
def test_freezing(name, frozen_stages):
    backbone = build(name, frozen_stages=frozen_stages).train()
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    expected = set()
    if frozen_stages >= 0:
        prefixes = ["stem."]
        for i in range(frozen_stages):
            prefixes += [f"stages.{i}.", f"out_norms.{i}."]
        expected = {k for k, _ in backbone.named_parameters() if k.startswith(tuple(prefixes))}
    assert frozen == expected
    statistics = {k: v.clone() for k, v in backbone.state_dict().items() if "running_mean" in k}
    outs = backbone(torch.randn(2, 3, 64, 64))
    if frozen_stages < 4:
        sum(out.sum() for out in outs if out.requires_grad).backward()
    for key, before in statistics.items():
        is_frozen = frozen_stages >= 0 and (
            key.startswith("stem") or int(key.split(".")[1]) < frozen_stages
        )
        assert torch.equal(backbone.state_dict()[key], before) == is_frozen, key


def test_norm_eval_keeps_statistics(name):
    backbone = build(name, norm_eval=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert norms
    assert not any(m.training for m in norms)
    assert backbone.training
    assert all(m.training for m in build(name).train().modules())


def test_state_dict_round_trip(name):
    first, second = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for p in second.parameters():
            p.add_(torch.randn_like(p))
    x = torch.randn(1, 3, 64, 64)
    assert not torch.equal(first(x)[-1], second(x)[-1])
    second.load_state_dict(first.state_dict())
    for actual, expected in zip(second(x), first(x), strict=True):
        assert torch.equal(actual, expected)


def test_built_from_a_toolbox_config(name):
    cls = backbone_classes()[name.partition("-")[0]]
    config = {"type": f"mmeffvit.{cls.__name__}", "arch": shrunk_arch(name), "out_indices": (1, 2)}
    assert isinstance(MMENGINE_MODELS.build(config), cls)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(name, dtype):
    # in training mode, as the untrained statistics of batch norms would let activations vanish
    backbone = build(name, drop_path_rate=0.0).train()
    x = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        expected = backbone(x)
        with torch.autocast("cpu", dtype=dtype):
            outs = backbone(x)
    for actual, reference in zip(outs, expected, strict=True):
        assert actual.isfinite().all()
        # tokens close to a cluster's border may change sides, which is why this is a mean
        difference = (actual.float() - reference).abs().mean() / reference.abs().mean()
        assert difference < 0.03


def test_channels_last_and_contiguous_inputs_agree(name):
    backbone = build(name).eval()
    x = torch.randn(2, 3, 40, 72)
    for actual, expected in zip(
        backbone(x.contiguous(memory_format=torch.channels_last)), backbone(x), strict=True
    ):
        torch.testing.assert_close(actual, expected)


def test_samples_of_a_batch_do_not_mix(name):
    backbone = build(name).eval()
    x = torch.randn(3, 3, 64, 48)
    alone = backbone(x[1:2])
    for actual, expected in zip(backbone(x), alone, strict=True):
        torch.testing.assert_close(actual[1:2], expected, atol=1e-4, rtol=1e-4)


def test_nan_in_one_image_is_visible_and_stays_in_it(name):
    backbone = build(name).eval()
    x = torch.randn(2, 3, 64, 64)
    clean = backbone(x)
    x[0, 0, 10, 10] = float("nan")
    for out, expected in zip(backbone(x), clean, strict=True):
        assert out[0].isnan().any()
        torch.testing.assert_close(out[1], expected[1], atol=1e-4, rtol=1e-4)


class TestErrors:
    def test_unknown_variant(self, name):
        cls = backbone_classes()[name.partition("-")[0]]
        with pytest.raises(ValueError, match=r"no variant 'tinny'; it has .*did you mean 'tiny'"):
            cls(arch="tinny")

    def test_wrong_keys(self, name):
        cls = backbone_classes()[name.partition("-")[0]]
        arch = shrunk_arch(name)
        del arch["depths"]
        with pytest.raises(ValueError, match="missing: depths; unknown: layers"):
            cls(arch={**arch, "layers": (1, 1, 1, 1)})

    def test_wrong_type(self, name):
        cls = backbone_classes()[name.partition("-")[0]]
        with pytest.raises(TypeError, match="a name or a dict, got int"):
            cls(arch=3)

    def test_wrong_length(self, name):
        cls = backbone_classes()[name.partition("-")[0]]
        with pytest.raises(ValueError, match=r"arch\['depths'\].*each of the 4 stages"):
            cls(arch={**shrunk_arch(name), "depths": (1, 1)})

    @pytest.mark.parametrize("indices", [(), (4,), (-1,), (2, 1), (1, 1)])
    def test_out_indices(self, name, indices):
        with pytest.raises(ValueError, match=r"ascending stages out of 0..3"):
            build(name, out_indices=indices)

    def test_frozen_stages_beyond_what_is_built(self, name):
        with pytest.raises(ValueError, match="frozen_stages=3 is not possible"):
            build(name, out_indices=(0, 1), frozen_stages=3)

    @pytest.mark.parametrize("rate", [-0.1, 1])
    def test_drop_path_rate(self, name, rate):
        with pytest.raises(ValueError, match=rf"drop_path_rate must be in \[0, 1\), got {rate}"):
            build(name, drop_path_rate=rate)

    @pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 4, 64, 64), (3, 64, 64)])
    def test_channels(self, name, shape):
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got"):
            build(name)(torch.randn(*shape))

    @pytest.mark.parametrize("size", [(31, 64), (64, 16)])
    def test_small_images(self, name, size):
        with pytest.raises(ValueError, match=f"at least 32 x 32 pixels, got {size[0]} x {size[1]}"):
            build(name)(torch.randn(1, 3, *size))
