"""What is known of upstream's classes by name is about classes that there are."""

import pytest
from mmdet.registry import MODELS as DETECTION
from mmpretrain.registry import MODELS as CLASSIFICATION
from mmseg.registry import MODELS as SEGMENTATION

from mmeffvit.swap import upstream

NAMES = [
    *upstream.REFUSED,
    *upstream.WITHOUT_BRANCHES,
    *upstream.WITHOUT_BRANCHES.values(),
    *upstream.EXCLUSIVE_END,
    *upstream.TAKES_THE_LAST,
    *upstream.VIEWS_MAPS,
    *upstream.STAGES,
    *upstream.USUAL,
    *upstream.USUAL.values(),
]


@pytest.mark.parametrize("name", NAMES)
def test_class_exists(name):
    registries = {"mmdet": DETECTION, "mmseg": SEGMENTATION, "mmpretrain": CLASSIFICATION}
    assert any(models.get(f"{scope}.{name}") for scope, models in registries.items())
