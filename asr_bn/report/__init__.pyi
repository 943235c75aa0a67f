from .build import build_report as build_report
from .results import collect_results as collect_results
from .results import read_epochs as read_epochs

__all__ = [
    "build_report",
    "collect_results",
    "read_epochs",
]
