"""Django Channels as its documentation shows: a consumer a socket, a group for all and one for each user."""

import os
from urllib.parse import parse_qs

import django
from django.conf import settings

# Newer redis-py has limits that the layer exceeds: when many join at once, when nothing comes for a while.
host = {"address": os.environ["BENCH_REDIS_URL"], "max_connections": 10_000, "socket_timeout": None}
layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [host]}}
settings.configure(
    SECRET_KEY="only for measuring",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": layer},
    MIDDLEWARE=[],
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  # needs the settings
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Listener(AsyncWebsocketConsumer):
    async def connect(self):
        self.user = parse_qs(self.scope["query_string"].decode())["user"][0]
        await self.channel_layer.group_add("all", self.channel_name)
        await self.channel_layer.group_add(f"user.{self.user}", self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard("all", self.channel_name)
        await self.channel_layer.group_discard(f"user.{self.user}", self.channel_name)

    async def push(self, event):
        await self.send(text_data=event["text"])


async def publish(request):
    await get_channel_layer().group_send("all", {"type": "push", "text": request.body.decode()})
    return HttpResponse()


async def target(request, user):
    await get_channel_layer().group_send(f"user.{user}", {"type": "push", "text": request.body.decode()})
    return HttpResponse()


urlpatterns = [path("publish", publish), path("to/<user>", target)]
app = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Listener.as_asgi())])}
)
