# A classifier without a neck, with the head of the published weights. Give it a backbone.
model = dict(
    type="ImageClassifier",
    backbone=dict(
        # one map, as it is: the head has a norm of its own
        out_indices=(3,),
        out_norm=False,
    ),
    neck=None,
    head=dict(
        type="mmeffvit.ConvClsHead",
        num_classes=1000,
        in_channels=512,
        hidden_channels=1024,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    # one of the two for each batch, with equal odds
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)
