"""``serve``: answers over HTTP, until a signal says to stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from expertbank.errors import InputError
from expertbank.http.limits import HttpConfig
from expertbank.serving.limits import ServeConfig
from expertbank.settings import build

from . import streams
from .options import path, takes
from .session import Session
from .shipping import Backbone

if TYPE_CHECKING:
    from expertbank.reports.forgetting import ForgettingReport
    from expertbank.serving.live import ServingState, Source

EXTRA = "pip install 'expertbank[serve]'"
SWITCH_SECONDS = 0.001
_NEEDED = frozenset({"fastapi", "starlette", "uvicorn", "h11", "prometheus_client"})


@takes(ServeConfig, HttpConfig)
def serve(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Option(parser=path, help="Answer from this bundle; no bank is needed.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default is this machine's own.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Ask for one of the keys in this file: one a line, # begins a remark. It is read "
            "again when it changes.",
        ),
    ] = None,
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Let the log hold the texts that were asked.")
    ] = False,
    backbone: Backbone = None,
    **given: Any,
) -> None:
    """Answer over HTTP, for many callers at once.

    Speaks the Open Inference Protocol (/v2), has vLLM's /v1/models and /classify, takes JSON lines
    at /predict and shows a page at /. A router or expert that enters the bank is taken over
    without a pause. One line of JSON a request goes to standard output. SIGTERM ends it once what
    is under way is answered. TLS is a proxy's work.

    Example: expertbank serve --bundle ./expertbank-bundle --port 8000
    """
    session: Session = context.obj
    config, http = build(ServeConfig, given), build(HttpConfig, given)
    _require_extra()
    from expertbank.http.app import make_app
    from expertbank.http.keys import KeyFile
    from expertbank.http.running import address_of, bind, is_loopback, run
    from expertbank.http.watch import Watch
    from expertbank.serving.server import Server

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    keys = None if api_key_file is None else KeyFile(api_key_file)
    with ExitStack() as stack:
        listening = stack.enter_context(bind(host, port))
        source, report = _source(session, stack, bundle, backbone)
        watch = Watch.writing_to(cast("TextIO", _Lines()), log_texts)
        server = Server(source, config, watch.metrics)
        app = make_app(server, http=http, keys=keys, watch=watch, report=report)
        where = address_of(listening)
        if keys is None and not is_loopback(host):
            streams.say(
                f"WARNING: {where} can be reached from other machines and asks for no key: whoever "
                "reaches it can ask, and reload. Add --api-key-file, or leave --host out"
            )

        def ready(state: ServingState) -> None:
            names = [model.name for model in state.models]
            if session.as_json:
                document = {"serving": where, "models": names, "router": state.router_version}
                streams.write(streams.as_json(document, sys.stdout) + "\n")
                streams.flush()
            session.remark(f"serving {len(names)} models at {where}; stop with Ctrl-C")

        session.remark(f"loading; {where} answers when it is done")
        # The worker computes between calls of Python; a request must not wait 5 ms for its turn.
        sys.setswitchinterval(SWITCH_SECONDS)
        run(server, app, listening, http, ready)
    session.remark("stopped; what was under way was answered")


def _source(
    session: Session, stack: ExitStack, bundle: Path | None, backbone: str | None
) -> tuple[Source, Callable[[], ForgettingReport] | None]:
    """Where answers come from, and what makes the forgetting report, if anything can."""
    if bundle is not None:
        from expertbank.serving.from_bundle import BundleSource

        return BundleSource(bundle, backbone, session.device), None
    from expertbank.serving.from_bank import BankSource

    bank = stack.enter_context(session.bank(read_only=True, backbone=backbone))
    return BankSource(bank), partial(bank.forgetting_report, with_map=True)


def _require_extra() -> None:
    """Refuse to go on without the packages that HTTP needs.

    Raises:
        InputError: they are not installed; says how to.
    """
    try:
        import fastapi
        import prometheus_client
        import uvicorn
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise InputError(f"serve needs {error.name}, which is not installed: {EXTRA}") from error
    del fastapi, prometheus_client, uvicorn


class _Lines:
    """Standard output for lines that are not the result: one that is lost ends nothing."""

    def write(self, text: str) -> None:
        try:
            streams.write(text)
        except streams.OutputLost as error:
            raise error.cause from error

    def flush(self) -> None:
        try:
            streams.flush()
        except streams.OutputLost as error:
            raise error.cause from error
