"""What AWS's descriptions of its own services say, for those who ask it and for those who answer in its place."""
