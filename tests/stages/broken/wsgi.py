"""A stage that fails to load with an error that nobody foresaw."""

raise RuntimeError("this stage cannot load")
