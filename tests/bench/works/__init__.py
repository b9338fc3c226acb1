"""The works: what is done, by whom, and what of it is counted."""
