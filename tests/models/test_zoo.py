import pytest

import mmeffvit
from mmeffvit.models import SecViT


def test_list_backbones():
    assert mmeffvit.list_backbones("secvit-*") == [
        "secvit-base",
        "secvit-large",
        "secvit-small",
        "secvit-tiny",
    ]
    assert mmeffvit.list_backbones("nothing*") == []
    assert mmeffvit.list_backbones() == sorted(mmeffvit.list_backbones())


def test_create_backbone_passes_arguments():
    backbone = mmeffvit.create_backbone("secvit-tiny", out_indices=(0, 1), drop_path_rate=0.0)
    assert isinstance(backbone, SecViT)
    assert backbone.out_channels == (64, 128)
    assert backbone.drop_path_rate == 0


@pytest.mark.parametrize("name", ["secvit-tinny", "secvit", "resnet-50", ""])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=f"no backbone is called '{name}'; .*secvit-tiny|did you"):
        mmeffvit.create_backbone(name)


@pytest.mark.parametrize("make", [mmeffvit.create_backbone, mmeffvit.create_classifier])
def test_pretrained_is_answered_with_what_to_write(make):
    with pytest.raises(
        TypeError, match=r"takes no pretrained=True.*init_cfg=dict\(type='Pretrained'"
    ):
        make("rmt-tiny", pretrained=True)
