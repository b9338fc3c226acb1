"""Who is kept out, and of what nobody may take too much."""
