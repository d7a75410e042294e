# The same with the photographs, which have no labels: DAFormer's self-training.
_base_ = "source-only_rmt_1xb8-800_digits-64.py"
model = dict(
    type="mmeffvit.DAFormer",
    momentum=0.02,
    threshold=0.968,
    # strokes do not fill a cell of 32 pixels: the map of stride 8, and half a cell
    distance=dict(weight=0.005, thing_classes=list(range(6)), level=1, min_share=0.5),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type="mmeffvit.DomainPairs", source=_base_.rare, target=_base_.target
    )
)
