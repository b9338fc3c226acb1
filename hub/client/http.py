"""The HTTP side of the client."""

from typing import Any, TypeAlias

import httpx

from hub.client.problem import problem_of

Json: TypeAlias = dict[str, Any]


class HubHttp:
    """Calls one node or balancer as one user. Raises `HubProblem` for refusals, `httpx.TransportError` where
    no answer came: then nobody knows, and only a booking with a key may simply be repeated."""

    def __init__(self, client: httpx.AsyncClient, url: str, token: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Json | None = None, *, key: str | None = None) -> Json:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        answer = await self._client.request(method, self._url + path, json=body, headers=headers)
        if answer.is_success:
            found: Json = answer.json()
            return found
        raise problem_of(answer.status_code, answer.headers, answer.content, answer.reason_phrase)

    async def book(self, *, key: str | None = None, **fields: Any) -> Json:
        return await self.call("POST", "/api/intake/start", fields, key=key)

    async def active_session(self) -> Json:
        return await self.call("GET", "/api/customer/active-session")

    async def end(self, session_id: str) -> Json:
        return await self.call("POST", f"/api/customer/sessions/{session_id}/end")

    async def queue(self) -> Json:
        return await self.call("GET", "/api/mechanic/queue")

    async def held(self) -> Json:
        return await self.call("GET", "/api/mechanic/active-session")

    async def answer(self, verb: str, assignment_id: str) -> Json:
        """`verb`: accept, decline or release."""
        return await self.call("POST", f"/api/mechanic/assignments/{assignment_id}/{verb}")

    async def start_session(self, session_id: str) -> Json:
        return await self.call("POST", f"/api/mechanic/sessions/{session_id}/start")

    async def end_session(self, session_id: str) -> Json:
        return await self.call("POST", f"/api/mechanic/sessions/{session_id}/end")

    async def presence(self, mechanic_ids: list[str]) -> Json:
        return await self.call("GET", f"/api/presence?ids={','.join(mechanic_ids)}")

    async def status(self, mechanic_id: str) -> Json:
        return await self.call("GET", f"/api/mechanics/{mechanic_id}/status")
