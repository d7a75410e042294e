# Labelled scenes alone: what adaptation is compared with.
_base_ = ["_base_/network.py", "_base_/domains.py", "_base_/schedule.py"]
