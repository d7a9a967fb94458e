"""The server as a deployment of Ray Serve: ``serve run expertbank.http.ray:build home=DIR``.

Every replica loads the bank or the bundle for itself and follows its routers as ``expertbank
serve`` does, so a new router rolls over the replicas one by one, and each answer is of one router
and names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from expertbank.errors import InputError
from expertbank.plain import mapping, typed
from expertbank.serving.limits import ServeConfig
from expertbank.settings import build as settings_of
from expertbank.settings import options_of

if TYPE_CHECKING:
    from fastapi import FastAPI

OWN = ("home", "bundle", "backbone", "device", "replicas", "cpus")


def build(arguments: Mapping[str, Any]) -> Any:
    """The application of Ray Serve.

    Args:
        arguments: ``home`` of a bank or ``bundle`` (a folder on every node); ``backbone``,
            ``device``; ``replicas`` (1), ``cpus`` of each (1), which Ray makes its threads; any
            setting of ``expertbank serve``, such as ``max_batch_rows``.

    Raises:
        InputError: neither bank nor bundle, both, or an argument that there is not.
    """
    import yaml
    from ray import serve

    given = dict(arguments)
    own = {name: given.pop(name) for name in OWN if name in given}
    if ("home" in own) == ("bundle" in own):
        raise InputError("name a bank (home=DIR) or a bundle (bundle=DIR), and one of them")
    # Ray's command line gives texts.
    plain = {k: yaml.safe_load(v) if isinstance(v, str) else v for k, v in given.items()}
    kinds = {option.key: option.kind for option in options_of(ServeConfig)}
    mapping(plain, "expertbank.http.ray", list(kinds))
    config = settings_of(
        ServeConfig, {k: typed(kinds[k], v, "expertbank.http.ray", k) for k, v in plain.items()}
    )
    cpus = int(own.get("cpus", 1))

    def application() -> FastAPI:
        return _in_replica(own, config)

    deployment = serve.deployment(
        name="expertbank",
        num_replicas=int(own.get("replicas", 1)),
        max_ongoing_requests=config.queue_rows,
        ray_actor_options={"num_cpus": cpus},
        graceful_shutdown_timeout_s=config.drain_seconds + 5,
    )
    return deployment(serve.ingress(application)()).bind()


def _in_replica(own: Mapping[str, Any], config: ServeConfig) -> FastAPI:
    """The application over a server that has begun to load, in the process of a replica."""
    from expertbank.bank import Bank
    from expertbank.http.app import make_app
    from expertbank.http.watch import Watch
    from expertbank.serving.from_bank import BankSource
    from expertbank.serving.from_bundle import BundleSource
    from expertbank.serving.live import Source
    from expertbank.serving.server import Server

    backbone, device = own.get("backbone"), own.get("device")
    source: Source
    if "bundle" in own:
        source = BundleSource(own["bundle"], backbone, device)
    else:
        source = BankSource(
            Bank.open(own["home"], read_only=True, backbone=backbone, device=device)
        )
    watch = Watch()
    server = Server(source, config, watch.metrics)
    server.start()
    # Serve sends no request before this is done: a replica that cannot load never takes part.
    server.wait_ready()
    return make_app(server, watch=watch)
