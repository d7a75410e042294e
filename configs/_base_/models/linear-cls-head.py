# A classifier of mmpretrain's own parts: a mean over the map, a linear layer. Give it a backbone.
_base_ = "./conv-cls-head.py"

model = dict(
    neck=dict(_delete_=True, type="GlobalAveragePooling"),
    head=dict(
        _delete_=True,
        type="LinearClsHead",
        num_classes=1000,
        in_channels=512,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)
