"""Experiments of many trainings: the paper's tables, its search, and how far experts agree."""

from pointsense.experiments.agreement import tupac16_agreement

__all__ = ["tupac16_agreement"]
