# Labelled scenes alone, those with rare classes more often: what of the gain is due to that.
_base_ = "source-only_rmt_1xb8-800_digits-64.py"
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.rare))
