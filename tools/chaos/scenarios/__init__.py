"""The faults. Importing this package enters them all in `tools.chaos.report.SCENARIOS`, in this order."""

from tools.chaos.scenarios import processes, stopping, hanging, crowds, limits, images  # noqa: I001 - the report's order

__all__ = ["crowds", "hanging", "images", "limits", "processes", "stopping"]
