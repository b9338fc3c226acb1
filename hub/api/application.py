"""The HTTP application: all operations, and refusals in one shape."""

import time
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from hub.api.docs import DocsApi
from hub.api.operation import Operation, routes
from hub.api.secure import SecureHeaders
from hub.api.web import on_hang_up, on_http_error, on_hub_error, on_surprise
from hub.domain.errors import HubError
from hub.identity import TokenVerifier
from hub.limiter import Allowances
from hub.ports import Clock


def http_application(
    operations: Iterable[Operation],
    *,
    verifier: TokenVerifier,
    clock: Clock,
    origins: tuple[str, ...],
    requests_per_second: float = 200,
) -> Starlette:
    """`requests_per_second`: what one customer or mechanic may ask of this node."""
    documented = list(operations)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Link", "Retry-After"],
    )
    application = Starlette(
        routes=routes([*documented, *DocsApi(documented).operations()]),
        middleware=[Middleware(SecureHeaders), *([cors] if origins else [])],
        exception_handlers={
            HubError: on_hub_error,
            HTTPException: on_http_error,
            ClientDisconnect: on_hang_up,
            Exception: on_surprise,
        },
    )
    application.router.redirect_slashes = False
    application.state.verifier = verifier
    application.state.clock = clock
    application.state.allowances = Allowances(requests_per_second, time.monotonic)
    return application
