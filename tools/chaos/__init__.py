"""Faults under load: each one's promise, tried on real processes with a client that knows the right answers."""
