"""task=serve: a catalogue over HTTP, with a web page."""

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.model_files import bundle_of
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.store import Store
from fashion.serve.settings import Settings
from fashion.tasks.options import Options, read_options

if TYPE_CHECKING:
    from fashion.serve.service import Service

log = logging.getLogger(__name__)
ACCESS_FORMAT = '[%(asctime)s][uvicorn.access][INFO] - %(client_addr)s "%(request_line)s" %(status_code)s'
"""uvicorn's own, with the time in front, as the other lines of the log have it."""


class ServeOptions(Options):
    catalog: str
    encoder: str | None
    mmap: bool
    server: Settings


def run(cfg: DictConfig) -> None:
    """Serve until interrupted; requests under way are finished first."""
    options = read_options(cfg, ServeOptions)
    try:
        import uvicorn
        from uvicorn.config import LOGGING_CONFIG

        from fashion.serve.app import create_app
        from fashion.serve.protocol import bounded_head
    except ImportError as error:
        raise FashionError(f"Serving needs the `serve` extra ({error}): pip install -e '.[serve]'") from error

    settings = options.server
    service = make_service(options.catalog, options.encoder, settings, mmap=options.mmap)
    free = free_socket(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{free.getsockname()[1]}"
    log.info("%d items at %s (page), %s/docs (API).  Ctrl-C ends it.", len(service.catalog), where, where)
    if not settings.writable:
        log.info("Without server.api_key (or FASHION_API_KEY) the catalogue is read-only on %s.", settings.host)
    elif not service.store.writable():
        log.info("%s may not be written by this user, so the catalogue is read-only.", service.store.folder)
    absent = (settings.columns or frozenset()) - set(service.catalog.items.column_names)
    if absent:
        log.warning("server.columns names %s, which the catalogue does not have (yet).", ", ".join(sorted(absent)))
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # bad requests, which clients are told of
    formats = LOGGING_CONFIG["formatters"]
    formats = {**formats, "access": {**formats["access"], "fmt": ACCESS_FORMAT}}
    config = uvicorn.Config(
        create_app(service), log_config={**LOGGING_CONFIG, "formatters": formats}, log_level="warning",
        access_log=settings.access_log, timeout_graceful_shutdown=30, server_header=False,
        http=bounded_head(settings.read_timeout_s), root_path=settings.root_path,
        forwarded_allow_ips=settings.trusted_proxies,
    )  # fmt: skip
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    uvicorn.Server(config).run(sockets=[free])


def free_socket(host: str, port: int) -> socket.socket:
    """A socket at that address, taken before anybody is told of it.

    Raises:
        FashionError: if the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is; without, each request takes 40 ms more.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise FashionError(
            f"server.host={host} server.port={port} cannot be served ({error.strerror}); choose another port or host."
        ) from error
    return taken


def make_service(catalog: str | Path, encoder: str | None, settings: Settings, *, mmap: bool = False) -> "Service":
    """The service of a catalogue's folder, with its encoder as a bundle.

    Raises:
        FashionError: if there is no such catalogue, or its model was not exported.
    """
    from fashion.serve.service import Service

    folder = Path(catalog).expanduser()
    opened = Catalog.open(folder, mmap=mmap)
    engine = VisualSearchEngine(load_encoder(bundle_of(Path(encoder) if encoder else opened.encoder_path())), opened)
    return Service(engine, Store(folder), settings, mmap=mmap)
