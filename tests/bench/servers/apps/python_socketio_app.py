"""python-socketio with its Redis manager, as documented; every user is in a room of their own."""

import os
from urllib.parse import parse_qs

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

manager = socketio.AsyncRedisManager(os.environ["BENCH_REDIS_URL"])
sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager)


@sio.event
async def connect(sid, environ):
    await sio.enter_room(sid, parse_qs(environ["QUERY_STRING"])["user"][0])


async def publish(request: Request) -> Response:
    await sio.emit("event", (await request.body()).decode())
    return Response()


async def target(request: Request) -> Response:
    await sio.emit("event", (await request.body()).decode(), to=request.path_params["user"])
    return Response()


routes = [Route("/publish", publish, methods=["POST"]), Route("/to/{user}", target, methods=["POST"])]
app = socketio.ASGIApp(sio, Starlette(routes=routes))
