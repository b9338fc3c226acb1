"""Dispatch hub: presence, priority offers and live assignment between customers and mechanics."""

__version__ = "0.1.0"
