"""Servers under test: the hub and its references, each in processes of its own."""
