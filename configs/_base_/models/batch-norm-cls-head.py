# A classifier without a neck, whose head is a batch norm, a mean over the map and a linear layer.
# Give it a backbone.
_base_ = "./norm-cls-head.py"

model = dict(head=dict(type="mmeffvit.BatchNormClsHead"))
