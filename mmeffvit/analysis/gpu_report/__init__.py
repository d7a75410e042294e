"""One run on a GPU: do results agree, and what do training and prediction cost there.

`tools/analysis/gpu_report.py` is its command line.
"""

from mmeffvit.analysis.gpu_report.page import write_page
from mmeffvit.analysis.gpu_report.plan import FULL, TINY, Sizes, plan
from mmeffvit.analysis.gpu_report.run import COLUMNS, run

__all__ = ["COLUMNS", "FULL", "TINY", "Sizes", "plan", "run", "write_page"]
