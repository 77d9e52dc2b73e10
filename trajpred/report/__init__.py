"""One evaluation as a page: scores beside those of the baselines, curves, calibration, cost, the worst cases.

The page is one file that needs neither a network nor matplotlib.
"""

from trajpred.report.document import page
from trajpred.report.examined import Examined, examine

__all__ = ["Examined", "examine", "page"]
