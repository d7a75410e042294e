"""mmpretrain finds the classifiers by name once they are registered."""

import mmpretrain
import torch

from mmeffvit import list_backbones
from mmeffvit.classification import register_models

PUBLISHED = ("ravlt", "rmt", "secvit", "ssvit")
OTHERS = (
    "resformer-small_8xb128-mr_in1k",
    *("cswin-tiny_8xb256_in1k", "cswin-small_8xb256_in1k", "cswin-base_8xb128_in1k"),
    "favit-b0_8xb128_in1k",
    *("uniformer-small_8xb128_in1k", "uniformer-base_8xb128_in1k"),
    *(
        f"crossformer-{variant}_8xb128_in1k"
        for variant in ("tiny", "small", "base", "large")
        + tuple(f"plus-{size}" for size in ("small", "base", "large", "huge"))
    ),
    *(f"ppma-{size}_8xb128_in1k" for size in ("tiny", "small", "base")),
)


def test_models_are_listed_and_built():
    names = register_models()
    assert register_models() == names
    shared = [f"{name}_16xb128_in1k" for f in PUBLISHED for name in list_backbones(f"{f}-*")]
    assert names == sorted([*shared, *OTHERS])
    assert mmpretrain.list_models("secvit-tiny") == ["secvit-tiny_16xb128_in1k"]
    assert set(names) <= set(mmpretrain.list_models(task="Image Classification"))
    # mmpretrain's own are still there
    assert "resnet18_8xb32_in1k" in mmpretrain.list_models("resnet18")

    with torch.device("meta"):
        model = mmpretrain.get_model("secvit-tiny_16xb128_in1k", head={"num_classes": 7})
    assert type(model).__name__ == "ImageClassifier"
    assert model.backbone.arch_name == "tiny"
    assert model.head.fc.weight.shape == (7, 1024)
    assert model._metainfo.metadata.data["Parameters"] == 14_981_800
