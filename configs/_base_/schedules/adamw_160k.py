# 160000 iterations of AdamW: the schedule that RMT, RAVLT, and Swin in mmseg have for UPerNet.
_base_ = "mmseg::_base_/schedules/schedule_160k.py"

optimizer = dict(_delete_=True, type="AdamW", lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01)
optim_wrapper = dict(
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            "absolute_pos_embed": dict(decay_mult=0.0),
            "relative_position_bias_table": dict(decay_mult=0.0),
            "norm": dict(decay_mult=0.0),
        }
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
default_hooks = dict(checkpoint=dict(type="mmeffvit.SafeCheckpointHook", max_keep_ckpts=3))

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
