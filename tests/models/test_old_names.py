"""Names of earlier versions work for a release, and say what to write instead."""

import pytest
import torch

import mmeffvit.layers
import mmeffvit.models
from mmeffvit.layers import MapContext, SECMixer
from mmeffvit.models import backbones
from mmeffvit.models.backbones import pyramid
from mmeffvit.ops import sec_attention
from mmeffvit.ops.points import voxel_groups


def test_classifier_that_made_its_head():
    backbone = mmeffvit.create_backbone("secvit-tiny", out_indices=(3,), out_norm=False)
    with pytest.warns(DeprecationWarning, match=r"backbone.make_head\(num_classes\)"):
        old = mmeffvit.models.PyramidClassifier(backbone, num_classes=7, hidden_channels=16)
    new = mmeffvit.models.Classifier(backbone, backbone.make_head(7, hidden_channels=16))
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (old, new)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("module", ["mmeffvit.models", "mmeffvit.models.heads"])
def test_head_without_a_toolbox(module):
    module = {"mmeffvit.models": mmeffvit.models, "mmeffvit.models.heads": mmeffvit.models.heads}[
        module
    ]
    with pytest.warns(DeprecationWarning, match="called ConvClassifier now"):
        assert module.ConvClsHead is mmeffvit.models.ConvClassifier


def test_mixers_by_inheritance():
    with pytest.warns(DeprecationWarning, match="compose it of"):

        class Mixer(mmeffvit.layers.LePEAttention):
            def attend(self, q, k, v, context):
                return sec_attention(q, k, v, 1)

    old, new = Mixer(8, 2), SECMixer(8, 2)
    new.positions = lambda context: torch.tensor([1.0, 0.0]).expand(context.num_tokens, 2, 2)
    old.load_state_dict(new.state_dict())
    x = torch.randn(2, 8, 5, 3)
    torch.testing.assert_close(old(x, MapContext.of(x)), new(x, MapContext.of(x)))


def test_coordinates_of_pillars_by_their_old_name():
    coors = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 0, 0]])
    with pytest.warns(DeprecationWarning, match="coords=.* is now coors="):
        old = voxel_groups(coords=coors)
    assert torch.equal(old.inverse, voxel_groups(coors).inverse)


@pytest.mark.parametrize("name", ["ConvPyramid", "PyramidViT"])
def test_skeletons_in_the_file_of_the_loop(name):
    with pytest.warns(DeprecationWarning, match=f"import {name} from mmeffvit.models.backbones"):
        assert getattr(pyramid, name) is getattr(backbones, name)
