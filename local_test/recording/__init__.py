"""Requests of a running endpoint with their answers, kept in a file and sent again to another."""
