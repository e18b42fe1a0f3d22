"""The description of the routes as a page: Swagger UI from the installed files, since a page of this daemon loads nothing from
elsewhere.

Knows where the files are. Does not know the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

__all__ = ["PATHS", "routes"]

_FILES: Mapping[str, str] = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}

PATHS = ("/docs", "/docs/begin.js", *(f"/docs/{name}" for name in _FILES))

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>nanochat: routes</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="routes"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/begin.js"></script>
</html>
"""

_BEGIN = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#routes", deepLinking: true, validatorUrl: null})\n'

# Swagger UI sets styles on its elements as it goes; scripts come from files only.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes() -> list[BaseRoute]:
    """The page and what it loads."""

    async def page(_: Request) -> Response:
        return Response(_PAGE, media_type="text/html", headers={"content-security-policy": _POLICY})

    async def begin(_: Request) -> Response:
        return Response(_BEGIN, media_type="text/javascript")

    async def static(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        content = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(content, media_type=_FILES[name], headers={"cache-control": "private, max-age=86400"})

    return [
        Route("/docs", page),
        Route("/docs/begin.js", begin),
        *(Route(f"/docs/{name}", static) for name in _FILES),
    ]
