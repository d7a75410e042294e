"""The published classifiers' heads for mmpretrain's `ImageClassifier`; needs mmpretrain.

Their keys are those of `mmeffvit.models.heads.classifiers`, so that converted weights load into an
`ImageClassifier` as they are. The backbone returns its last map without a norm
(``out_indices=(3,), out_norm=False``), and there is no neck.
"""

from mmpretrain.models.heads import ClsHead

from mmeffvit.models.heads.classifiers import BatchNormClassifier, ConvClassifier, NormClassifier
from mmeffvit.registry import MODELS


@MODELS.register_module()
class ConvClsHead(ConvClassifier, ClsHead):
    """`ConvClassifier` with mmpretrain's losses and predictions.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        hidden_channels: Channels between the convolutions.
        loss: Config of the loss.
        topk: Accuracies that are logged while training, if `cal_acc`.
        cal_acc: Whether they are; not with mixed labels.
        init_cfg: Of mmengine.
    """


@MODELS.register_module()
class NormClsHead(NormClassifier, ClsHead):
    """`NormClassifier` with mmpretrain's losses and predictions.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        eps: Of the norm.
        loss: Config of the loss.
        topk: Accuracies that are logged while training, if `cal_acc`.
        cal_acc: Whether they are; not with mixed labels.
        init_cfg: Of mmengine.
    """


@MODELS.register_module()
class BatchNormClsHead(BatchNormClassifier, ClsHead):
    """`BatchNormClassifier` with mmpretrain's losses and predictions.

    Args:
        in_channels: Channels C of the last map of the backbone.
        num_classes: Number of classes.
        loss: Config of the loss.
        topk: Accuracies that are logged while training, if `cal_acc`.
        cal_acc: Whether they are; not with mixed labels.
        init_cfg: Of mmengine.
    """
