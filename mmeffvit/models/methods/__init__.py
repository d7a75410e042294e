"""Our backbones in training methods that do more with a backbone than ask it for maps."""

from mmeffvit.models.methods.masked import masked_backbone
from mmeffvit.models.methods.recursive import recursive_pyramid
from mmeffvit.models.methods.sparse import sparse_backbone

__all__ = ["masked_backbone", "recursive_pyramid", "sparse_backbone"]
