"""Models that were trained elsewhere, made into the artifacts that the images serve."""
