"""Nodes, stores and networks that are broken on purpose, and a checker of what became of everything."""
