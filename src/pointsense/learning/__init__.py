"""Training: crops, losses, the choice of decoder and threshold, and the run folder."""
