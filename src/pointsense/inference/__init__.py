"""Images to detections: tiles, recovery of their codes, clustering."""
