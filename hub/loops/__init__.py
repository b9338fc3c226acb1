"""Long-running tasks, one a file: each is a `step()` that a test can call, and a `run()` that repeats it."""
