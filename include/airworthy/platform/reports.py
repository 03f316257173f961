"""The reports' web server: Data Docs, verdicts and drift reports as static files, and why a prediction was what it was.

By default for this machine only: there is no login.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from airworthy.config import Settings, get_settings
from airworthy.errors import ConfigurationError
from airworthy.platform.layout import port_of

PREDICTION = re.compile(r"[0-9a-f]{32}")
WHY_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;vertical-align:top;padding:.4rem 1rem .4rem 0;white-space:nowrap}td{padding:.4rem 0}"
)


def folder(settings: Settings) -> Path:
    """The folder of the reports.

    Raises:
        ConfigurationError: reports are kept on an object store, which has an address of its own.
    """
    if "://" in settings.docs_url and not settings.docs_url.startswith("file://"):
        raise ConfigurationError(
            f"reports are at {settings.docs_url}, which is no local folder",
            next_step="read them there, or unset AIRWORTHY_DOCS_URL",
        )
    path = Path(settings.docs_url.removeprefix("file://"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def create_app(root: Path) -> object:
    """The application: files below ``root``, a list of a folder without ``index.html``, and why a prediction was what it was."""
    from html import escape
    from urllib.parse import quote

    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, RedirectResponse, Response
    from starlette.routing import Route
    from starlette.staticfiles import StaticFiles

    # StaticFiles refuses whatever leaves the folder; the listing below goes through the same check.
    files = StaticFiles(directory=root, html=True)

    async def listing(request: Request) -> Response:
        relative = request.path_params.get("path", "")
        try:
            found, stat = files.lookup_path(relative or ".")
        except ValueError as error:  # a zero byte in the path
            raise HTTPException(404) from error
        if stat is None:
            raise HTTPException(404)
        place = Path(found)
        if not place.is_dir() or (place / "index.html").is_file():
            return await files.get_response(relative or ".", request.scope)
        if not request.url.path.endswith("/"):
            return RedirectResponse(f"{request.url.path}/")
        entries = sorted(place.iterdir(), key=lambda p: (p.is_file(), p.name))
        items = "".join(
            f'<li><a href="./{quote(e.name)}{"/" if e.is_dir() else ""}">{escape(e.name)}</a></li>' for e in entries
        )
        title = escape(f"/{relative}")
        return HTMLResponse(
            f"<!doctype html><title>{title}</title><h1>Reports {title}</h1><ul>{items or '<li>none yet</li>'}</ul>"
        )

    def why_page(request: Request) -> Response:
        from airworthy.errors import AirworthyError
        from airworthy.platform.lineage_things import find
        from airworthy.platform.why import why

        identity = request.path_params["prediction"]
        if not PREDICTION.fullmatch(identity):
            raise HTTPException(404)
        try:
            found = why(find(identity))
        except AirworthyError as error:
            return HTMLResponse(f"<!doctype html><title>Why</title><p>{escape(error.what)}</p>", status_code=404)
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in found.parts)
        title = escape(found.title)
        return HTMLResponse(
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{WHY_STYLE}</style>"
            f"<h1>{title}</h1><table>{rows}</table></html>"
        )

    return Starlette(
        routes=[
            Route("/", listing),
            Route("/why/{prediction}", why_page),
            Route("/{path:path}", listing),
        ]
    )


def arguments(settings: Settings, given: Sequence[str] | None = None) -> argparse.Namespace:
    """Where to listen: loopback and the port of ``reports_url``, unless the command line says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m airworthy.platform.reports", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no login")
    parser.add_argument("--port", type=int, default=port_of(settings.reports_url), help="port to listen on")
    return parser.parse_args(given)


def main() -> int:
    """Serve until stopped."""
    import uvicorn

    settings = get_settings()
    options = arguments(settings)
    uvicorn.run(
        create_app(folder(settings)),
        host=options.host,
        port=options.port,
        log_level="warning",
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
