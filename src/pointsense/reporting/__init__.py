"""Pictures and pages: overlays, curves, the code of one patch, and the report that holds them."""

from pointsense.reporting.overlay import draw_overlay, write_overlay
from pointsense.reporting.page import Figure, Section, Table, write_report

__all__ = ["Figure", "Section", "Table", "draw_overlay", "write_overlay", "write_report"]
