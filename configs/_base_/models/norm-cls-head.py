# A classifier without a neck, whose head is a layer norm, a mean over the map and a linear layer.
# Give it a backbone.
_base_ = "./conv-cls-head.py"

model = dict(
    head=dict(
        _delete_=True,
        type="mmeffvit.NormClsHead",
        num_classes=1000,
        in_channels=512,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)
