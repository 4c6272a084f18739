"""Training: crops, losses, the choice of reading and threshold, and the run folder."""
