"""Scoring: matching protocols, reports, thresholds and the blob-detection baseline."""

from pointsense.evaluation.cases import Case, Scores
from pointsense.evaluation.comparison import paired_bootstrap
from pointsense.evaluation.match import PROTOCOLS, Match, match
from pointsense.evaluation.report import Report, evaluate
from pointsense.evaluation.threshold import ThresholdChoice, best_threshold

__all__ = [
    "PROTOCOLS",
    "Case",
    "Match",
    "Report",
    "Scores",
    "ThresholdChoice",
    "best_threshold",
    "evaluate",
    "match",
    "paired_bootstrap",
]
