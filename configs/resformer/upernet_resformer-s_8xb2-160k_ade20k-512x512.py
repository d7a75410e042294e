# UPerNet on the maps of four blocks, ResFormer-S, 160k iterations of ADE20K.
# The paper's own recipe is not known here: this is one of fine-tuning plain ViTs (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        _delete_=True, type="mmeffvit.ResFormer", arch="small", out_indices=(2, 5, 8, 11)
    ),
    neck=dict(type="mmeffvit.PlainToPyramid", in_channels=[384] * 4),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.95, no_decay=True),
)
