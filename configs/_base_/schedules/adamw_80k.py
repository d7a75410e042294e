# 80000 iterations of AdamW with weak decay of every parameter, without warm-up: the schedule that
# RMT and RAVLT have for Semantic FPN.
_base_ = "mmseg::_base_/schedules/schedule_80k.py"

optimizer = dict(_delete_=True, type="AdamW", lr=0.0001, betas=(0.9, 0.999), weight_decay=0.0001)
optim_wrapper = dict(optimizer=optimizer)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-6, by_epoch=False, begin=0, end=80000)]
default_hooks = dict(checkpoint=dict(type="mmeffvit.SafeCheckpointHook", max_keep_ckpts=3))

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
