"""Sockets, messages to all or to one, and a JSON route, as Starlette's own documentation would write them."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

sockets: dict[str, WebSocket] = {}


async def listen(socket: WebSocket) -> None:
    user = socket.query_params["user"]
    await socket.accept()
    sockets[user] = socket
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        del sockets[user]


async def publish(request: Request) -> Response:
    text = (await request.body()).decode()
    for socket in list(sockets.values()):
        await socket.send_text(text)
    return Response()


async def target(request: Request) -> Response:
    await sockets[request.path_params["user"]].send_text((await request.body()).decode())
    return Response()


async def status(request: Request) -> Response:
    return JSONResponse({"is_online": True, "status": "online", "last_seen": "2027-01-15T08:00:00.000Z"})


app = Starlette(
    routes=[
        WebSocketRoute("/ws", listen),
        Route("/publish", publish, methods=["POST"]),
        Route("/to/{user}", target, methods=["POST"]),
        Route("/status/{id}", status),
    ]
)
