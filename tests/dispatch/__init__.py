"""The dispatcher against a real Valkey."""
