"""Simulated mechanics and customers, who do what people do to a hub."""
