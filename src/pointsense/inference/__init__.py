"""From images to points: tiles, decoding, clustering, and the detector that users hold."""
