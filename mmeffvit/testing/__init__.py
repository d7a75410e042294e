"""What tests need, here and in projects that add networks: golden files and tolerances."""

from mmeffvit.testing.compare import relative_rms_error
from mmeffvit.testing.golden import TOLERANCES, check_golden, golden_weights
from mmeffvit.testing.small import small_arch

__all__ = ["TOLERANCES", "check_golden", "golden_weights", "relative_rms_error", "small_arch"]
