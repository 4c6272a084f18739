"""One colour for each meaning in every picture, after Okabe and Ito: distinct also to the colour-blind."""

TRUTH = "#F0E442"
HIT = "#009E73"
MISS = "#D55E00"
FALSE_ALARM = "#CC79A7"
DETECTION = "#56B4E9"
CLASSES = (DETECTION, "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
CANDIDATE = "#009E73"
PREDICTED = "#D55E00"
MEASURED = "#0072B2"
