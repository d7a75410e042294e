"""Networks of other libraries keep what a backbone promises, and return the library's own maps."""

import copy
import math

import pytest
import torch

from mmeffvit.models import LibraryBackbone

from .networks import NETWORKS

OPTIONS = {name: (options, strides) for name, options, strides in NETWORKS}


def build(name, **arguments):
    torch.manual_seed(0)
    return LibraryBackbone(name, **OPTIONS[name][0], **arguments)


def test_there_are_enough():
    assert len(OPTIONS) >= 40


@pytest.mark.parametrize("name", OPTIONS)
def test_maps_gradients_and_depth(name):
    backbone = build(name)
    assert backbone.out_strides == OPTIONS[name][1]
    maps = backbone(torch.randn(2, 3, 66, 43))
    for x, channels, stride in zip(maps, backbone.out_channels, backbone.out_strides, strict=True):
        assert x.shape == (2, channels, math.ceil(66 / stride), math.ceil(43 / stride))
        assert x.isfinite().all()
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
    layers = {key: backbone.get_layer_depth(key) for key, _ in backbone.named_parameters()}
    depths = {depth for depth, _ in layers.values()}
    (count,) = {count for _, count in layers.values()}
    assert min(depths) == 0 < max(depths) < count
    assert backbone.get_layer_depth("bbox_head.weight", "backbone.") == (count - 1, count)


SOME = ["timm/test_convnext", "timm/test_vit", "torchvision/resnet18", "hf/swin", "hf/dinov2"]
SOME += ["mmpretrain/VisionTransformer"]


@pytest.mark.parametrize("name", SOME)
def test_out_indices_select_the_same_maps(name):
    count = len(build(name).stage_strides)
    every = build(name, out_indices=tuple(range(count))).eval()
    x = torch.randn(1, 3, 64, 96)
    maps = every(x)
    for indices in ((0,), (count - 1,), (0, count - 1)):
        part = build(name, out_indices=indices).eval()
        missing = part.load_state_dict(every.state_dict(), strict=False).missing_keys
        assert not missing
        for actual, index in zip(part(x), indices, strict=True):
            torch.testing.assert_close(actual, maps[index], rtol=0, atol=0)


class TestLibrariesOwnMaps:
    """What a user of the library gets without us, bit by bit."""

    image = torch.linspace(-1, 1, 2 * 3 * 64 * 96).view(2, 3, 64, 96)

    def check(self, backbone, theirs):
        with torch.no_grad():
            for ours, expected in zip(backbone.eval()(self.image), theirs, strict=True):
                assert torch.equal(ours, expected)

    @pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_mambaout"])
    def test_timm(self, name):
        import timm

        backbone = build(f"timm/{name}")
        theirs = timm.create_model(
            name, features_only=True, feature_cls="getter", out_indices=backbone.out_indices
        ).eval()
        theirs.model.load_state_dict(backbone.network.state_dict())
        with torch.no_grad():
            self.check(backbone, theirs(self.image))

    def test_torchvision(self):
        from torchvision import models
        from torchvision.models.feature_extraction import create_feature_extractor

        backbone = build("torchvision/mobilenet_v3_small", out_indices=(0, 1))
        theirs = models.mobilenet_v3_small().eval()
        theirs.load_state_dict(backbone.network.state_dict(), strict=False)
        nodes = {f"features.{i}": str(i) for i in (0, 1)}
        with torch.no_grad():
            maps = create_feature_extractor(theirs, nodes)(self.image).values()
            self.check(backbone, list(maps))

    @pytest.mark.parametrize("name", ["hf/dinov2", "hf/convnextv2"])
    def test_hugging_face(self, name):
        backbone = build(name).eval()
        image = self.image[..., :56, :84] if name == "hf/dinov2" else self.image
        with torch.no_grad():
            theirs = backbone.network(image).feature_maps
            for ours, expected in zip(backbone(image), theirs, strict=True):
                assert torch.equal(ours, expected)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("mmpretrain/VisionTransformer", {"out_type": "featmap"}),
            ("mmseg/VisionTransformer", {}),
        ],
    )
    def test_toolboxes(self, name, options):
        """mmpretrain has its last norm on the last map, mmseg none."""
        from mmengine.registry import MODELS

        backbone = build(name)
        kind = name.replace("/", ".")
        theirs = MODELS.build({"type": kind, **OPTIONS[name][0], **options})
        theirs.load_state_dict(backbone.network.state_dict())
        theirs.eval()
        with torch.no_grad():
            self.check(backbone, theirs(self.image))

    @pytest.mark.parametrize(("name", "extra"), [("vit", 1), ("deit", 2), ("ijepa", 0)])
    def test_hidden_states(self, name, extra):
        """The last map with the last norm is what the model says its last hidden state is."""
        backbone = build(f"hf/{name}").eval()
        with torch.no_grad():
            network = backbone.network(self.image, interpolate_pos_encoding=True)
            tokens = network.last_hidden_state[:, extra:]
            self.check(backbone, [tokens.transpose(1, 2).unflatten(2, (4, 6))])


class TestImages:
    def test_padding_is_on_the_right_and_at_the_bottom(self):
        backbone = build("timm/test_convnext").eval()
        x = torch.randn(1, 3, 64, 64)
        x[..., 50:, :] = x[..., 40:] = 0
        with torch.no_grad():
            for ours, whole in zip(backbone(x[..., :50, :40]), backbone(x)):
                assert torch.equal(ours, whole[..., : ours.shape[2], : ours.shape[3]])

    def test_patches_of_14_become_16(self):
        backbone = build("timm/vit_small_patch14_dinov2", out_stride=16).eval()
        assert backbone.out_strides == backbone.stage_strides[-1:] == (16,)
        x = torch.randn(1, 3, 48, 64)
        size = (3 * 14, 4 * 14)
        small = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
        with torch.no_grad():
            (ours,) = backbone(x)
            backbone.out_stride = None
            (expected,) = backbone(small)
        assert torch.equal(ours, expected)
        assert build("timm/vit_small_patch14_dinov2", out_stride=16)(torch.randn(1, 3, 50, 33))[
            0
        ].shape == (1, 48, 4, 3)

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            ("timm/test_vit", (1, 4, 64, 64), r"of shape \(B, 3, H, W\), got \(1, 4, 64, 64\)"),
            ("timm/test_vit", (1, 3, 64, 31), "at least 32 x 32 pixels, got 64 x 31"),
            ("timm/hiera_tiny_224", (1, 3, 64, 256), "built for images of 224 x 224 pixels"),
        ],
    )
    def test_others_are_refused(self, name, shape, message):
        with pytest.raises(ValueError, match=message):
            build(name)(torch.randn(shape))

    def test_other_channels(self):
        backbone = LibraryBackbone("timm/test_vit", in_channels=5)
        assert backbone(torch.randn(1, 5, 32, 32))[0].shape == (1, 64, 2, 2)


class TestFrozen:
    def test_costs_no_backward(self):
        backbone = build("timm/test_vit", frozen=True).train()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
            (x,) = backbone(torch.randn(1, 3, 32, 32, requires_grad=True))
        assert not saved
        assert not x.requires_grad
        assert not any(module.training for module in backbone.modules())
        assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_recomputing_changes_no_gradient():
    x = torch.randn(1, 3, 64, 64)
    gradients = []
    for with_cp in (False, True):
        backbone = build("timm/test_vit", with_cp=with_cp).train()
        sum(y.sum() for y in backbone(x)).backward()
        gradients.append([parameter.grad for parameter in backbone.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_copies_are_whole():
    backbone = build("hf/swin").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(copy.deepcopy(backbone)(x), backbone(x)):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tim/resnet18", {}, "timm/NAME, torchvision/NAME, hf/NAME; did you mean 'timm'"),
        ("resnet18", {}, "names no network of another library"),
        ("timm/convnextt", {}, "did you mean 'convnext_tiny'"),
        ("timm/resnet18.a1_in2k", {}, "no weights 'a1_in2k' of resnet18; did you mean 'a1_in1k'"),
        ("timm/test_vit", {"depths": 3}, "options of timm's test_vit are not possible: .*depths"),
        ("torchvision/resnet81", {}, "did you mean 'resnet18'"),
        ("torchvision/resnet18.V3", {}, "there are IMAGENET1K_V1"),
        ("torchvision/vit_b_16", {}, "does not make its maps one after another"),
        ("torchvision/resnet18", {"in_channels": 4}, "take RGB images"),
        ("mmpretrain/VisionTransfomer", {}, "did you mean 'VisionTransformer'"),
        ("mmpretrain/ResNet", {"depth": 18}, "as a pyramid its name is 'mmpretrain.ResNet'"),
        ("mmseg/VisionTransformer", {"depth": 3}, "options of mmseg's VisionTransformer are not"),
        ("hf/dinov22", {}, "did you mean 'dinov2'"),
        ("hf/yolos", {}, "is no type of backbone of transformers"),
        ("hf/dinov2", {"hidden_sise": 3}, "has no entry 'hidden_sise'; did you mean 'hidden_size'"),
        ("timm/test_vit", {"out_indices": (1, 0)}, r"out of 0\.\.5, each once, got \(1, 0\)"),
        ("timm/test_resnet", {"out_stride": 16}, "is for plain transformers"),
        ("torchvision/resnet18", {"with_cp": True}, "no checkpointing of blocks"),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        LibraryBackbone(name, **arguments)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    from mmeffvit.models.libraries import base

    def fail(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(base.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"timm is not installed; pip install 'mmeffvit\[back"):
        LibraryBackbone("timm/test_vit")
