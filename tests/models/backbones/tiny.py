"""Smallest networks of every family, and one that mixes their operators."""

import torch

from mmeffvit.models import PyramidViT
from mmeffvit.models.zoo import backbone_classes

_SHARED = {
    "embed_dims": (16, 32, 64, 64),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 4, 4),
    "mlp_ratios": (2, 2, 2, 2),
    "layer_scale": (None,) * 4,
}
#: stages whose attention is compiled and exported; the first two, where nothing is said
ATTENTION_STAGES = {
    **dict.fromkeys(("dinat", "favit", "svt"), (0,)),
    "resformer": (0,),  # both blocks are alike
    "uniformer": (2,),
}
#: stages that are also differentiated for all sizes, where one has the attention of all
GRADIENT_STAGES = dict.fromkeys(("secvit", "crossformer", "cswin", "dinat-s"), (0,))
ARCHS = {
    "secvit": {**_SHARED, "num_clusters": (4, -1, 2, -1)},
    "ravlt": {**_SHARED, "attention": ("l", "v", "l", "v")},
    "ssvit": {
        **_SHARED,
        "window_sizes": (7, 7, 7, 7),
        "reverse": ((False,), (True,), (False,), (True,)),
    },
    "rmt": {
        **_SHARED,
        "decay_inits": (2, 2, 2, 2),
        "decay_ranges": (4, 4, 4, 4),
        "decomposed": (True, False, True, False),
    },
    "ppma": {**_SHARED, "decomposed": (True, False, True, False)},
    "crossformer": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (2, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratios": (2, 2, 2, 2),
        "group_sizes": (3, 2, 2, 2),
        "intervals": (2, 2, 1, 1),
        "cooling": True,
    },
    "cswin": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (2, 4, 4, 4),
        "mlp_ratios": (2, 2, 2, 2),
        # torch picks a convolution by whether a batch, here of windows, has sixteen: it always has
        "stripe_widths": (2, None, 7, None),
    },
    # the second block is wider than the maps in the tests, and sees them continued
    "dinat": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (2, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratio": 2,
        "kernel_size": 3,
        "layer_scale": None,
    },
    "dinat-s": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratio": 2,
        "kernel_size": 3,
        "layer_scale": 0.5,
    },
    "favit": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratios": (2, 2, 2, 2),
        # both kinds of splitting channels
        "reductions": (3, 1, 2, 1),
        "window_size": 3,
    },
    "uniformer": {
        "embed_dims": (16, 32, 64, 64),
        "depths": (1, 1, 1, 1),
        "head_dim": 16,
        "mlp_ratio": 2,
        "conv_stem": False,
        "layer_scale": 0.5,
    },
    "crossvit": {
        "embed_dims": (16, 24),
        "depths": ((1, 1, 0), (1, 1, 0)),
        "num_heads": (2, 2),
        "mlp_ratios": (1, 1),
        "patch_sizes": (12, 16),
        "image_sizes": (60, 48),
        "conv_stem": False,
    },
    "resformer": {
        "embed_dims": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1,
        "patch_size": 16,
        "extra_tokens": 1,
    },
    "sret": {
        "embed_dims": (16, 16, 32, 64),
        "depths": (0, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "groups": ((1, 1), (4, 2), (2, 1), (1, 1)),
        "mlp_ratio": 1.3,
        "nll_ratio": 1,
        "loops": 2,
        "image_size": 40,
    },
    "svt": {
        "stem_dim": 8,
        "embed_dims": (16, 32, 64, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 4, 4),
        "mlp_ratios": (2, 2, 2, 2),
        "scatter_stages": 2,
        "gate_size": 16,
    },
    "vitar": {
        "embed_dims": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1,
        "patch_size": 16,
        "image_size": 48,
        "extra_tokens": 0,
        "window_sizes": (2, None),
        "layer_scale": None,
    },
    "hybrid": {
        **_SHARED,
        "mixers": (
            {"type": "mmeffvit.RALAMixer"},
            {"type": "mmeffvit.SECMixer", "num_clusters": 4},
            {"type": "mmeffvit.MaSAMixer", "decomposed": True},
            {"type": "mmeffvit.S3AMixer"},
        ),
    },
}


def build_tiny(name, changed=None, **kwargs):
    """The network of a family, or ``'hybrid'``, with random weights from a fixed seed.

    `changed` are entries of its arch.
    """
    torch.manual_seed(0)
    cls = PyramidViT if name == "hybrid" else backbone_classes()[name]
    return cls(arch={**ARCHS[name], **(changed or {})}, **kwargs)
