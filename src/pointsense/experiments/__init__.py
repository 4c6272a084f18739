"""What has been published on the contests, reproduced."""

from pointsense.experiments.agreement import tupac16_agreement

__all__ = ["tupac16_agreement"]
