"""Stand-ins for mmcv's compiled operators, on torchvision and plain PyTorch.

One file per operator family; every public function there has the name and the calling convention of
the function of ``mmcv._ext`` that it stands in for; ``module`` gathers them.
"""
