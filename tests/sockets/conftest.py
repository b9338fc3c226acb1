"""Over a real Valkey, where one is needed."""

from tests.redis.conftest import bench, valkey

__all__ = ["bench", "valkey"]
