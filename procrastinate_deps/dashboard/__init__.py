"""A web page on the jobs: an ASGI app, to be run by itself or mounted in yours. Needs the extra `[dashboard]`."""

from procrastinate_deps.dashboard.application import create_dashboard

__all__ = ["create_dashboard"]
