"""Transforms of point clouds, of rooms and of sweeps alike."""
