"""The page at ``/`` for people: ask, and see where a text goes and why.

It works without scripts; what it shows of an answer is the answer to a form that was posted, so
that no text stands in an address. Everything that comes from data or callers is escaped, and the
page's policy lets in nothing but its own style, script and figures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from expertbank.data.inputs import row_of
from expertbank.errors import ExpertBankError
from expertbank.http.asking import answer
from expertbank.http.bodies import read, require_same_site, require_type
from expertbank.http.problems import Problem, RefusedError, malformed
from expertbank.http.reported import LastReport, Told
from expertbank.http.seen import failed
from expertbank.http.table import NO_TASKS, tasks_table
from expertbank.http.view import Given, Shown, milliseconds, shown
from expertbank.http.watch import Watch
from expertbank.reports import templating, words
from expertbank.reports.forgetting import ForgettingReport
from expertbank.reports.html import forgetting_page
from expertbank.serving.asking import AUTO, Ask
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server
from expertbank.texts import printable
from expertbank.wording import count, listing

_TEMPLATES = Path(__file__).parent / "templates"

REPORT_SECONDS = 1.5
"""How long a page waits for the forgetting report when another state is served."""
MOST_FIELDS = 32
"""Fields of a form; ours has five."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_FIGURES = (
    ("waiting rows", "waiting"),
    ("requests", "requests"),
    ("rows answered", "rows"),
    ("refused", "refused"),
    ("failed", "failed"),
    ("median time", "median"),
    ("99% within", "slow"),
)
"""Names of the live figures and their keys in ``/live``."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a posted form: an answer, or what is wrong; neither where none was."""

    shown: Shown | None = None
    problem: Problem | None = None


def router(server: Server, watch: Watch) -> APIRouter:
    """``/``, ``/live`` and ``/report``.

    Args:
        server: what answers.
        watch: where live figures come from.
    """
    routes = APIRouter(include_in_schema=False)
    last = LastReport(server.source.report)

    async def reported() -> tuple[ServingState | None, Told]:
        if not server.loaded:
            return None, Told(why="There is nothing to report on yet.")
        state = server.current
        return state, await last.of(state.number, REPORT_SECONDS)

    async def page(given: Given, outcome: _Outcome) -> Response:
        text = _page(server, watch, *await reported(), given, outcome)
        headers = {**HEADERS, "Content-Security-Policy": _policy()}
        if outcome.problem is None:
            return HTMLResponse(text, headers=headers)
        return HTMLResponse(text, outcome.problem.status, {**headers, **outcome.problem.headers})

    @routes.get("/")
    async def show() -> Response:
        return await page(Given(), _Outcome())

    @routes.post("/")
    async def ask(request: Request) -> Response:
        try:
            require_type(request, "application/x-www-form-urlencoded", bare=True)
            given = await read(request, server.config.max_body_bytes, _given)
        except RefusedError as error:
            problem = failed(request.scope, error, server.state)
            return await page(Given(), _Outcome(problem=problem))
        return await page(given, await _outcome(server, request, given))

    @routes.get("/live")
    def live() -> Response:
        return JSONResponse(_live(server, watch), headers=HEADERS)

    @routes.get("/report")
    async def whole() -> Response:
        _, told = await reported()
        headers = {**HEADERS, "Content-Security-Policy": REPORT_POLICY}
        if told.report is None:
            return Response(f"{told.why}\n", 404, headers, "text/plain; charset=utf-8")
        return HTMLResponse(forgetting_page(told.report), headers=headers)

    return routes


def _given(body: bytes) -> Given:
    """What a posted form holds.

    Raises:
        RefusedError: it is no form of ours.
    """
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:  # UnicodeError among them
        raise malformed("the form is not URL-encoded UTF-8") from None

    def field(name: str, default: str = "") -> str:
        # Browsers send every line end as two characters.
        return fields.get(name, [default])[0].replace("\r\n", "\n")

    return Given(
        field("text"),
        field("text_pair"),
        field("choices"),
        field("model", AUTO) or AUTO,
        field("abstain") == "yes",
    )


async def _outcome(server: Server, request: Request, given: Given) -> _Outcome:
    """Ask, and tell what came of it."""
    routed = given.model == AUTO
    try:
        require_same_site(request, "the form was sent by another site")  # forms go anywhere unasked
        row = row_of(given.values, "the text")
        asked = Ask((row,), given.model, abstain=given.abstain and routed)
        answered = await answer(server, request, asked)
    except ExpertBankError as error:
        return _Outcome(problem=failed(request.scope, error, server.state))
    return _Outcome(shown(answered, given))


def _page(
    server: Server,
    watch: Watch,
    state: ServingState | None,
    told: Told,
    given: Given,
    outcome: _Outcome,
) -> str:
    models = () if state is None else state.models
    choosers = [m.name for m in models if "choices" in m.shapes and m.kind not in NO_TASKS]
    return templating.render(
        "page.html",
        "expertbank.http",
        title="expertbank",
        style=Markup(_asset("page.css")),  # noqa: S704 (our own files, as they are)
        script=Markup(_asset("page.js")),  # noqa: S704
        state=server.state,
        why=_why(server),
        older=server.why_not_reloaded is not None,
        serves="" if state is None else _serves(state),
        given=given,
        shown=outcome.shown,
        problem=None if outcome.problem is None else _sentence(outcome.problem.detail),
        names=[model.name for model in models if model.name != AUTO],
        routed=any(model.name == AUTO for model in models),
        multiple_choice=listing([printable(name) for name in choosers[:5]]) if choosers else "",
        texts_logged=watch.texts,
        figures=_FIGURES,
        live=_live(server, watch),
        tasks=tasks_table(models, told.report),
        report=None if told.report is None else _verdict(told.report),
        no_report=told.why,
    )


def _sentence(text: str) -> str:
    return printable(text[:1].upper() + text[1:]).rstrip(".") + "."


def _verdict(report: ForgettingReport) -> Mapping[str, str]:
    return {
        "state": report.state or "none",
        "name": report.state or "no verdict",
        "headline": words.headline(report),
        "summary": words.summary(report),
    }


def _serves(state: ServingState) -> str:
    """What is served, in a few words."""
    tasks = sum(model.kind not in NO_TASKS for model in state.models)
    router = "no router" if state.router_version is None else f"router@{state.router_version}"
    if state.router_version is None and state.router_digest is not None:
        router = f"router {state.router_digest[:12]}"
    loaded = state.loaded_at[:19].replace("T", " ")
    return f"{router} over {count(tasks, 'task')}, loaded {loaded} UTC"


def _why(server: Server) -> str:
    """What is wrong with the server, without what only its owner should read."""
    if server.state in {"ready", "starting"}:
        return ""
    return {
        "draining": "The server is shutting down.",
        "stopped": "The server has stopped.",
    }.get(server.state, "The server cannot answer; its log says why.")


def _live(server: Server, watch: Watch) -> dict[str, str]:
    """The live figures as they are written."""
    lately = watch.lately.figures()
    return {
        "state": server.state,
        "waiting": f"{server.waiting_rows:,}",
        "requests": f"{lately.requests:,}",
        "rows": f"{lately.rows:,}",
        "refused": f"{lately.refused:,}",
        "failed": f"{lately.failed:,}",
        "median": milliseconds(lately.median),
        "slow": milliseconds(lately.slow),
    }


@cache
def _asset(name: str) -> str:
    """One of the page's own files; its style begins with the report's."""
    own = (_TEMPLATES / name).read_text(encoding="utf-8")
    return templating.style() + own if name.endswith(".css") else own


@cache
def _policy() -> str:
    """The page's Content-Security-Policy: its own style and script by their digests."""
    style, script = (
        base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
        for name in ("page.css", "page.js")
    )
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{style}'",
            f"script-src 'sha256-{script}'",
            "connect-src 'self'",
            "img-src data:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
