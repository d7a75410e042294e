"""Forms for export in PyTorch, beside what their toolboxes predict.

Those of kinds that test_kinds.py does not export: that takes a minute each.
"""

import pytest
import torch
import torch.nn.functional as F

from mmeffvit import compat
from mmeffvit.deploy import ExportError, compare, made_up_images
from mmeffvit.deploy.kinds import find_form
from mmeffvit.deploy.pixels import Preparation

from . import small


class InPython:
    """Like an `OnnxModel`, without a file."""

    def __init__(self, model):
        kind, self.form = find_form(model)
        self.kind = kind.finds
        self.preparation = Preparation.of(model.data_preprocessor)

    @torch.no_grad()
    def run(self, images):
        x, prepare = torch.from_numpy(images.copy()).float(), self.preparation
        if prepare.swaps_channels:
            x = x.flip(1)
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (prepare.mean, prepare.std))
        height, width = x.shape[2:]
        x = F.pad((x - mean) / std, (0, -width % prepare.divisor, 0, -height % prepare.divisor))
        found = self.form(x, torch.tensor([height, width]))
        if "logits" in found:
            found = {"label_map": found["logits"].argmax(1)[:, :height, :width]}
        if "padded_masks" in found:
            found["masks"] = found.pop("padded_masks")[..., :height, :width]
        return {name: value.numpy() for name, value in found.items()}


KINDS = (
    "cascade_mask_rcnn",
    "dino",
    "deformable_detr",
    "mask2former",
    "mask2former_of_pixels",
    "semantic_fpn",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_predicts_as_the_toolbox(kind):
    model = getattr(small, kind)()
    agreement = compare(model, InPython(model), made_up_images(4, (64, 230)))
    print(agreement)
    assert agreement.compared >= 40
    assert agreement.good, agreement


def test_a_panoptic_map_is_refused_with_what_to_do():
    model = small.mask2former()
    model.test_cfg.panoptic_on = True
    with pytest.raises(ExportError, match=r"model\.test_cfg\.panoptic_on=False"):
        find_form(model)


@pytest.mark.parametrize("test_cfg", [None, {"size_divisor": 32}])
def test_pixels_of_segmentors_are_padded_as_at_test_time(test_cfg):
    compat.setup()
    from mmseg.models import SegDataPreProcessor
    from mmseg.structures import SegDataSample

    preprocessor = SegDataPreProcessor(pad_val=7, size=(512, 512), test_cfg=test_cfg)
    batch = {"inputs": [torch.zeros(3, 40, 50)], "data_samples": [SegDataSample()]}
    preparation = Preparation.of(preprocessor)
    sides = [-(-side // preparation.divisor) * preparation.divisor for side in (40, 50)]
    assert list(preprocessor(batch)["inputs"].shape[2:]) == sides
    assert preparation.value == 7


def test_pixels_of_segmentors_that_are_padded_to_a_size_are_refused():
    compat.setup()
    from mmseg.models import SegDataPreProcessor

    with pytest.raises(ExportError, match=r"pads test images to \(64, 64\)"):
        Preparation.of(SegDataPreProcessor(test_cfg={"size": (64, 64)}))
