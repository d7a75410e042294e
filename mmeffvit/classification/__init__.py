"""Image classification with mmpretrain: the head of the published weights, the model hub.

Importing this module needs no toolbox. ``type='mmeffvit.ConvClsHead'`` in a config imports what
needs mmpretrain by itself.
"""

from mmeffvit.classification.hub import register_models

__all__ = ["register_models"]
