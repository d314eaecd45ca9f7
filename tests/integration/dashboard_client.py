"""A dashboard as a browser's user meets it, without a browser."""

from __future__ import annotations

import contextlib
import html
import re
from typing import TYPE_CHECKING, Any

import httpx

from procrastinate_deps.dashboard import create_dashboard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette

    from procrastinate_deps import App

HERE = "http://localhost:8000"


class Visitor:
    """Fetches pages and sends their forms; keeps cookies."""

    def __init__(self, client: httpx.AsyncClient, root: str = "") -> None:
        self.client = client
        self.root = root

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(self.root + path, headers=headers)

    async def page(self, path: str) -> str:
        """The text of a page that is there, without the marks."""
        answer = await self.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {shown(answer.text)}"
        return shown(answer.text)

    async def data(self, path: str) -> Any:
        """What the JSON twin of a page says."""
        answer = await self.get("/api" + path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def token(self) -> str:
        found = re.search(r'data-csrf="([^"]+)"', (await self.get("/workers")).text)
        assert found is not None
        return found[1]

    async def post(self, path: str, fields: dict[str, Any], **headers: str) -> httpx.Response:
        """A form that a page of ours has sent, and was asked about."""
        data = {"csrf_token": await self.token(), "sure": "yes", **fields}
        return await self.client.post(self.root + path, data=data, headers={"origin": HERE, **headers})

    async def act(self, path: str, **fields: Any) -> tuple[bool, str]:
        """An action as the page's script does it: whether all went well, and what is said."""
        answer = await self.post(path, fields, **{"x-requested-with": "fetch"})
        said = answer.json()
        return answer.status_code == 200 and not said["failed"], said["text"]


@contextlib.asynccontextmanager
async def visiting(app: App | Starlette, address: str = HERE, root: str = "", **options: Any) -> AsyncIterator[Visitor]:
    """Visit the dashboard of an app, or an ASGI app that it is mounted in."""
    from starlette.applications import Starlette

    asgi = app if isinstance(app, Starlette) else create_dashboard(app, **options)
    transport = httpx.ASGITransport(app=asgi, client=("127.0.0.1", 50000), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=address) as client:
        yield Visitor(client, root)


def shown(page: str) -> str:
    """The words of a page: what stands between the marks of its <main>."""
    main = page.partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", main.partition(">")[2])).split())
