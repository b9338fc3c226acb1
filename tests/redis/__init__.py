"""The stores in Redis against a real Valkey."""
