"""The faults. Importing this package enters them all in `tools.chaos.report.SCENARIOS`, in this order."""

# the report's order
from tools.chaos.scenarios import processes, routing, stopping, hanging, crowds, limits, images  # noqa: I001

__all__ = ["crowds", "hanging", "images", "limits", "processes", "routing", "stopping"]
