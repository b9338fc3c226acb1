"""What one may ask of presence, found out before any store is asked."""

import httpx
import pytest

from hub.identity import issue
from tests.api.documents import SECRET, idle_node


@pytest.mark.parametrize("query", ["", "limit=5", "ids=a&status=online", "ids=" + ",".join(["a"] * 501)])
async def test_one_asks_for_ids_or_by_status(query: str) -> None:
    token = issue(SECRET, role="customer", user_id="8d3c2a5e-7f64-4b0f-b6a1-2c9d4e5f6a02", ttl=60)
    transport = httpx.ASGITransport(app=idle_node().http)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        answer = await http.get(f"/api/presence?{query}", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
        422,
        "invalid_request",
        "ids",
    )
