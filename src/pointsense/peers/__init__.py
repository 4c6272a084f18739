"""Other detectors, trained on our crops by our rules: what pointsense is compared with."""
