# UPerNet, CSWin-T, 160k iterations of ADE20K, as the authors train it.
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CSWin", arch="tiny", drop_path_rate=0.3),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
