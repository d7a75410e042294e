"""Heads for dense prediction in mmdet and mmseg.

Importing this module needs no toolbox: ``type='mmeffvit.KMaXHead'`` and its like in a config import
what needs one by themselves.
"""
