"""``serve``: answers over HTTP, until a signal says to stop."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, cast

import typer

from expertbank.errors import InputError
from expertbank.http.limits import EngineConfig, HttpConfig
from expertbank.serving.limits import ServeConfig
from expertbank.settings import build

from . import streams
from .options import path, takes
from .session import Session
from .shared_options import Backbone, FromBundle

if TYPE_CHECKING:
    from fastapi import APIRouter

    from expertbank.http.keys import KeyFile
    from expertbank.http.watch import Watch
    from expertbank.serving.engine import Engine
    from expertbank.serving.live import ServingState, Source
    from expertbank.serving.server import Server

EXTRA = "pip install 'expertbank[serve]'"
SWITCH_SECONDS = 0.001
_NEEDED = frozenset({"fastapi", "starlette", "uvicorn", "h11", "prometheus_client"})


@takes(ServeConfig, HttpConfig, EngineConfig)
def serve(
    context: typer.Context,
    bundle: FromBundle = None,
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
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Stand in front of an engine at this address, such as http://host:8000: "
            "/v1/completions and /v1/chat/completions go to the adapter that content chooses.",
        ),
    ] = None,
    engine_model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=NAME",
            help="What the engine calls a task's adapter, where not by the task's name; may be "
            "given several times.",
        ),
    ] = None,
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
    behind, patience = _engine(engine, engine_model or []), build(EngineConfig, given)
    from expertbank.http.app import make_app
    from expertbank.http.keys import KeyFile
    from expertbank.http.running import address_of, bind, is_loopback, run
    from expertbank.http.watch import Watch
    from expertbank.serving.server import Server

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("expertbank.http.running").setLevel(logging.INFO)  # what a signal has done
    keys = None if api_key_file is None else KeyFile(api_key_file)
    with ExitStack() as stack:
        listening = stack.enter_context(bind(host, port))
        source = _source(session, stack, bundle, backbone)
        watch = Watch.writing_to(cast("TextIO", _Lines()), log_texts)
        server = Server(source, config, watch.metrics)
        front = _in_front_of(behind, patience, keys)
        app = make_app(server, http=http, keys=keys, watch=watch, engine=front)
        where = address_of(listening)
        if keys is None and not is_loopback(host):
            streams.say(
                f"WARNING: {where} can be reached from other machines and asks for no key: whoever "
                "reaches it can ask, and reload. Add --api-key-file, or leave --host out"
            )

        def ready(state: ServingState) -> None:
            names = [model.name for model in state.models]
            _tell_unused(behind, names)
            if session.as_json:
                document = {"serving": where, "models": names, "router": state.router_version}
                streams.write(streams.as_json(document, sys.stdout) + "\n")
                streams.flush()
            offered = f"{len(names)} model{'s' if len(names) > 1 else ''}"
            session.remark(f"serving {offered} at {where}; stop with Ctrl-C")

        session.remark(f"loading; {where} answers when it is done")
        # The worker computes between calls of Python; a request must not wait 5 ms for its turn.
        sys.setswitchinterval(SWITCH_SECONDS)
        lost = run(server, app, listening, http, ready)
        if not server.loaded:
            session.remark("stopped before anything was served")
            _leave(watch)
    told = "what was under way was answered"
    if lost:
        told = f"{lost:,} request{'s' if lost > 1 else ''} went unanswered"
    session.remark(f"stopped; {told}")


def _leave(watch: Watch) -> NoReturn:
    """End the process under a thread that still loads: Python's own end would cut into it."""
    if watch.log is not None:
        watch.log.close()
    streams.flush()
    os._exit(0)


def _engine(url: str | None, names: list[str]) -> Engine | None:
    """The engine to stand in front of, if one is named.

    Raises:
        InputError: no address of HTTP, names without one, or httpx is not installed.
    """
    if url is None:
        if names:
            raise InputError("--engine-model names adapters of an engine: give --engine URL too")
        return None
    from expertbank.serving.engine import Engine

    engine = Engine.of(url, names)
    try:
        import httpx
    except ImportError as error:
        raise InputError(f"serve --engine needs httpx, which is not installed: {EXTRA}") from error
    del httpx
    return engine


def _in_front_of(
    engine: Engine | None, config: EngineConfig, keys: KeyFile | None
) -> Callable[[Server], APIRouter] | None:
    """What makes the engine's routes; nothing without one."""
    if engine is None:
        return None
    from expertbank.http.engine import router

    return lambda server: router(server, engine, config, keys)


def _tell_unused(engine: Engine | None, models: list[str]) -> None:
    """Say which of an engine's names are for no task that is here, perhaps by a slip."""
    for task in sorted(set(engine.names if engine else ()) - set(models)):
        streams.say(f"WARNING: --engine-model {task}=...: no task {task!r} is served")


def _source(
    session: Session, stack: ExitStack, bundle: Path | None, backbone: str | None
) -> Source:
    """Where answers come from."""
    if bundle is not None:
        from expertbank.serving.from_bundle import BundleSource

        return BundleSource(bundle, backbone, session.device)
    from expertbank.serving.from_bank import BankSource

    return BankSource(stack.enter_context(session.bank(read_only=True, backbone=backbone)))


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
