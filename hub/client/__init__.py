"""The Python client: HTTP and the native socket, for scripts, simulations and tests."""

from hub.client.http import HubHttp
from hub.client.problem import HubProblem
from hub.client.socket import HubSocket

__all__ = ["HubHttp", "HubProblem", "HubSocket"]
