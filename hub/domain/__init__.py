"""The rules of dispatch: pure functions over frozen values. No I/O, no clock, no await."""
