"""The tests of the standards use the server of the tests of its pages."""

from tests.server.conftest import clock, open_server, server

__all__ = ["clock", "open_server", "server"]
