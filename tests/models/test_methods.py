"""Backbones in methods that change their maps: recursive pyramids, learning from masked images."""

import copy

import pytest
import torch
from torch import nn

from mmeffvit.checkpoint import CheckpointError, load_weights
from mmeffvit.layers import LayerNorm2d
from mmeffvit.models import (
    PlainViT,
    PyramidViT,
    masked_backbone,
    recursive_pyramid,
    sparse_backbone,
)
from mmeffvit.models.methods.sparse import VisibleCells
from mmeffvit.models.network import METHOD_PARTS
from mmeffvit.models.zoo import backbone_classes

from .backbones.tiny import ARCHS, build_tiny

CLASSES = {**backbone_classes(), "hybrid": PyramidViT}
PYRAMIDS = [name for name in ARCHS if CLASSES[name].map_edits == "blocks"]
MASKABLE = [name for name in ARCHS if CLASSES[name].map_edits]


def levels_of(network, image, channels=3):
    """What a feature pyramid would hand back: a level more than the network has maps."""
    sizes = [[-(-side // s) for side in image.shape[-2:]] for s in (*network.out_strides, 64)]
    return [torch.randn(len(image), channels, *size) for size in sizes]


def same(maps, others):
    return all(torch.equal(x, y) for x, y in zip(maps, others, strict=True))


def masks(rows):
    """(B, h, w) of strings, in which 1 is masked."""
    return torch.tensor([[[int(cell) for cell in row] for row in mask.split()] for mask in rows])


class TestRecursive:
    @pytest.mark.parametrize("name", PYRAMIDS)
    def test_feedback_begins_as_nothing_and_learns(self, name):
        """Also where the network pads images inside."""
        image = torch.randn(1, 3, 65, 70)
        plain = build_tiny(name).eval()
        network = recursive_pyramid(build_tiny(name), feedback_channels=3).eval()
        levels = levels_of(network, image)
        with torch.no_grad():
            assert same(network(image), plain(image))
        maps = network.rfp_forward(image, levels)
        assert same(maps, network(image))
        sum(x.square().sum() for x in maps).backward()
        assert list(network.feedback) == ["1", "2", "3"]
        for stage, conv in network.feedback.items():
            assert conv.weight.grad.abs().max() > 0, stage
        assert all(p.grad is not None for p in network.parameters())

    def test_each_level_reaches_its_stage_and_what_follows(self):
        image = torch.randn(1, 3, 64, 64)
        network = recursive_pyramid(build_tiny("ravlt"), feedback_channels=3).eval()
        for conv in network.feedback.values():
            nn.init.normal_(conv.weight)
        levels = [torch.zeros_like(level) for level in levels_of(network, image)]
        with torch.no_grad():
            before = network.rfp_forward(image, levels)
            for changed in range(4):
                others = [level + (i == changed) for i, level in enumerate(levels)]
                after = network.rfp_forward(image, others)
                moved = [not torch.equal(x, y) for x, y in zip(after, before)]
                # the first level feeds nothing back
                assert moved == [changed > 0 and i >= changed for i in range(4)]

    def test_of_some_maps_the_first_feeds_nothing_back(self):
        network = recursive_pyramid(build_tiny("rmt", out_indices=(1, 3)), 3, output_img=True)
        image = torch.randn(1, 3, 64, 64)
        assert list(network.feedback) == ["3"]
        assert network(image)[0] is image
        assert len(network.rfp_forward(image, levels_of(network, image))) == 2

    def test_errors(self):
        with pytest.raises(ValueError, match="PlainViT does not let it do; take a pyramid"):
            recursive_pyramid(PlainViT("tiny"))
        with pytest.raises(ValueError, match="two maps at least"):
            recursive_pyramid(build_tiny("rmt", out_indices=(3,)), 3)
        network, image = recursive_pyramid(build_tiny("rmt"), 3), torch.randn(1, 3, 64, 64)
        levels = levels_of(network, image)
        with pytest.raises(ValueError, match="4 maps and takes as many levels"):
            network.rfp_forward(image, levels[:3])
        with pytest.raises(ValueError, match=r"feedback to stage 1 .* same strides, in order"):
            network.rfp_forward(image, levels[1:])


class TestMasked:
    @pytest.mark.parametrize("name", MASKABLE)
    def test_nothing_that_is_masked_is_seen(self, name):
        plain, network = build_tiny(name).eval(), masked_backbone(build_tiny(name)).eval()
        image = torch.randn(2, 3, 64, 96)
        mask = masks(["010 110", "001 000"]).repeat_interleave(8, 1).repeat_interleave(8, 2)
        hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].bool()
        with torch.no_grad():
            seen = network(image, mask)
            assert same(network(torch.where(hidden, torch.randn_like(image), image), mask), seen)
            assert not same(network(torch.where(hidden, image, image.flip(1)), mask), seen)
            assert same(network(image), plain(image))
            assert same(network(image, torch.zeros_like(mask)), plain(image))
            network.mask_token += 1
            assert not same(network(image, mask), seen)

    def test_is_the_papers_where_patches_do_not_overlap(self):
        """Tokens are replaced after the patch embedding, and then get their positions."""
        network = masked_backbone(build_tiny_vit())
        entered = []
        network.blocks[0].register_forward_pre_hook(lambda block, args: entered.append(args[0]))
        image, mask = torch.randn(1, 3, 64, 96), masks(["010101 011001 000000 100000"])
        network(image, mask)[0].sum().backward()
        patches = network.patch_embed(network.pad_image(image))
        wanted = network.position(torch.where(mask[:, None] == 1, network.mask_token, patches))
        torch.testing.assert_close(entered[0], wanted)
        assert network.mask_token.grad.abs().max() > 0

    @pytest.mark.parametrize("side", [64, 70])
    def test_cells_of_a_stem(self, side):
        """A cell is masked where its first pixel is, whatever the grid of the mask."""
        network = masked_backbone(build_tiny("ravlt")).eval()
        entered = []
        network.stages[0].blocks[0].register_forward_pre_hook(
            lambda block, args: entered.append(args[0])
        )
        network(torch.randn(1, 3, side, side), masks(["01 00"]))
        cells = (entered[0] == network.mask_token).all(1)[0]
        half = -(-side // 2)
        first = torch.arange(0, side, 4) >= half
        assert torch.equal(cells, ~first[:, None] & first)

    def test_errors(self):
        with pytest.raises(ValueError, match="CrossViT does not let it do; take a pyramid or a"):
            masked_backbone(build_tiny("crossvit"))
        with pytest.raises(ValueError, match=r"has the shape \(2, h, w\), got \(1, 4, 4\)"):
            masked_backbone(build_tiny("rmt"))(torch.randn(2, 3, 64, 64), torch.ones(1, 4, 4))


class TestSparse:
    @pytest.mark.parametrize("name", PYRAMIDS)
    def test_whole_images_are_seen_as_ever_and_masked_cells_stay_empty(self, name):
        plain, network = build_tiny(name), sparse_backbone(build_tiny(name))
        image = torch.randn(2, 3, 64, 96)
        seen = []
        for each in (network, plain):
            torch.manual_seed(0)  # SReT shuffles tokens in training
            seen.append(each(image))
        for one, other in zip(*seen, strict=True):
            torch.testing.assert_close(one, other)
        visible = masks(["010 110", "001 100"])[:, None].bool()
        pixels = visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
        entered = []
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, LayerNorm2d)):
                module.register_forward_hook(lambda *args: entered.append(args[-1]))
        network.zero_grad()
        maps = network(image * pixels)
        sum(x.square().sum() for x in maps).backward()
        for x in (*entered, *maps):
            cells = network.cells.of(x) if isinstance(x, torch.Tensor) else None
            if cells is not None:
                assert x.masked_select(~cells).abs().max() == 0
        assert len(entered) > 4
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())

    def test_recomputed_blocks_see_the_same_cells(self):
        image = torch.randn(2, 3, 64, 64)
        image[0, :, :32] = image[1, :, :, 32:] = 0
        grads = []
        for with_cp in (False, True):
            network = sparse_backbone(build_tiny("uniformer", with_cp=with_cp)).train()
            sum(x.square().sum() for x in network(image)).backward()
            grads.append([p.grad for p in network.parameters()])
        for one, other in zip(*grads):
            torch.testing.assert_close(one, other)

    def test_a_batch_norm_is_one_of_visible_cells(self):
        network = sparse_backbone(build_tiny("ravlt")).train()
        norm = next(m for m in network.stem if isinstance(m, nn.BatchNorm2d))
        twin = nn.BatchNorm2d(norm.num_features)
        image = torch.randn(2, 3, 64, 64)
        image[:, :, :32, :32] = 0
        network.cells.look(image)
        x = torch.randn(2, norm.num_features, 32, 32, requires_grad=True)
        visible = network.cells.of(x).squeeze(1)
        assert visible.float().mean() == 0.75
        out = norm(x)
        rows = twin(x.permute(0, 2, 3, 1)[visible][..., None, None]).flatten(1)
        assert torch.equal(out.permute(0, 2, 3, 1)[visible], rows)
        assert torch.equal(norm.running_var, twin.running_var)
        assert out.permute(0, 2, 3, 1)[~visible].abs().max() == 0

    def test_channels_of_a_decoder(self):
        network = sparse_backbone(build_tiny("ravlt"), out_channels=(8, 16, 32, 64))
        assert list(network.projections) == ["0", "1", "2"]
        assert network.out_channels == (8, 16, 32, 64)
        maps = network(torch.randn(1, 3, 64, 64))
        assert tuple(x.shape[1] for x in maps) == network.out_channels

    def test_a_copy_has_cells_of_its_own(self):
        network = sparse_backbone(build_tiny("ravlt")).eval()
        twin = copy.deepcopy(network)
        image = torch.randn(1, 3, 64, 64)
        masked = image.clone()
        masked[..., :32] = 0
        with torch.no_grad():
            expected = network(masked)
            network.cells.look(masked)
            twin(image)
            assert twin.cells is not network.cells
            assert network.cells.of(image).float().mean() == 0.5
            assert same(twin(masked), expected)

    def test_errors(self):
        with pytest.raises(ValueError, match="PlainViT does not let it do; take a pyramid of"):
            sparse_backbone(PlainViT("tiny"))
        with pytest.raises(ValueError, match="the last stride must divide patch_size=16"):
            sparse_backbone(build_tiny("rmt"), patch_size=16)
        with pytest.raises(ValueError, match="4 maps"):
            sparse_backbone(build_tiny("rmt"), out_channels=(8, 16))
        with pytest.raises(ValueError, match="64 x 80 pixels are not made of patches of 32"):
            sparse_backbone(build_tiny("rmt"))(torch.randn(1, 3, 64, 80))

    @pytest.mark.parametrize(
        "shape", [(2, 3), (2, 3, 7, 2), (2, 3, 1, 1), (8, 3, 2, 2), (2, 3, 4, 2)]
    )
    def test_what_is_no_whole_map_is_left_alone(self, shape):
        cells = VisibleCells(32)
        assert cells.of(torch.zeros(2, 3, 2, 2)) is None
        cells.look(torch.zeros(2, 3, 64, 64))
        assert cells.of(torch.zeros(shape)) is None
        assert cells.of(torch.zeros(2, 3, 2, 2)) is not None


def build_tiny_vit():
    arch = {**ARCHS["vitar"], "window_sizes": None}
    torch.manual_seed(0)
    return PlainViT(arch)


@pytest.mark.parametrize(
    ("method", "options", "part"),
    [
        (recursive_pyramid, {"feedback_channels": 3}, "feedback.1.weight"),
        (masked_backbone, {}, "mask_token"),
        (sparse_backbone, {"out_channels": (8, 16, 32, 64)}, "projections.0.weight"),
    ],
)
def test_weights_fit_with_the_method_and_without(method, options, part):
    """Names stay, so that what was pre-trained is a backbone's file, and the other way round."""
    plain, network = build_tiny("rmt"), method(build_tiny("rmt"), **options)
    assert network.state_dict().keys() > plain.state_dict().keys()
    assert isinstance(network, type(plain))
    for param in network.parameters():
        nn.init.normal_(param)
    model = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    model["neck.weight"] = torch.zeros(1)
    report = load_weights(plain, {"state_dict": model})
    assert report.ignored[f"backbone.{part}"] == METHOD_PARTS[part.partition(".")[0]]
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in plain.state_dict().items())
    fresh = method(build_tiny("rmt"), **options)
    assert part in load_weights(fresh, plain.state_dict()).missing
    wrong = {**plain.state_dict(), "something": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="something has no place"):
        load_weights(fresh, wrong)
    assert network.get_layer_depth(part) == (5, 6)
