"""The HTTP application: all operations, and refusals in one shape."""

import time
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from hub.api.direct import DirectApplication
from hub.api.docs import DocsApi
from hub.api.operation import Operation, routes
from hub.api.secure import SecureHeaders
from hub.api.web import HANDLERS
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
) -> DirectApplication:
    """`requests_per_second`: what one customer or mechanic may ask of this node."""
    documented = list(operations)
    everything = [*documented, *DocsApi(documented).operations()]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Link", "Retry-After"],
    )
    application = Starlette(
        routes=routes(everything),
        middleware=[Middleware(SecureHeaders), *([cors] if origins else [])],
        exception_handlers=HANDLERS,
    )
    application.router.redirect_slashes = False
    application.state.verifier = verifier
    application.state.clock = clock
    application.state.allowances = Allowances(requests_per_second, time.monotonic)
    return DirectApplication(everything, application, cross_origin=bool(origins))
