"""The settings of a server; its defaults are safe."""

import re
from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts of this machine alone.  A server on one of them refuses other Host headers: protection from DNS rebinding."""

ORIGIN = re.compile(r"https?://[^/\sA-Z]+")
"""What browsers say of where a page comes from: no path, no slash at the end."""


class Settings(BaseModel):
    """Limits and rights of a server.

    host: loopback by default; anything else is reachable from other machines.
    api_key: what writes must carry; None: writes come from loopback only.
    workers: requests worked on at a time.  queue: requests that may wait for them; more are sent away at once.
    read_timeout_s: for a request's head, and once more for its body, seconds.  rate_limit: requests a second of one
    address; None: any number.  origins: of other sites' pages that may search, such as https://shop.example.
    root_path: below what path a proxy shows this server, which it takes off what it asks for: /find.
    access_log: whether each request is a line of the log.  trusted_proxies: addresses and networks, X-Forwarded-For of
    which is believed.  columns: those of the shop's that are shown and searched by; None: all of them.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_key: str | None = Field(None, min_length=8)
    workers: int = Field(2, ge=1)
    queue: int = Field(32, ge=0)
    max_upload_mb: float = Field(10, gt=0)
    max_pixels: int = Field(16_000_000, ge=1)
    max_pictures: int = Field(32, ge=1)
    max_k: int = Field(200, ge=1)
    read_timeout_s: float = Field(10, gt=0)
    thumbnail: int = Field(256, ge=16, le=1024)
    reload_s: float = Field(1.0, gt=0)
    rate_limit: float | None = Field(None, gt=0)
    origins: list[str] = []
    root_path: str = ""
    access_log: bool = False
    columns: frozenset[str] | None = None
    trusted_proxies: list[str] = ["127.0.0.1", "::1"]

    @field_validator("api_key", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # digits only, so it was read as a number
        return None if value == "" else value  # an environment variable that is set to nothing

    @field_validator("origins")
    @classmethod
    def _as_browsers_send_them(cls, value: list[str]) -> list[str]:
        wrong = next((one for one in value if one != "*" and not ORIGIN.fullmatch(one)), None)
        if wrong is not None:
            raise ValueError(
                f"{wrong!r} is no origin; give scheme and host in small letters, as in https://shop.example"
            )
        return value

    @field_validator("root_path")
    @classmethod
    def _as_a_path(cls, value: str) -> str:
        if not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)*", value):
            raise ValueError(f"{value!r} is no path that can be shown; start it with a slash and end it without: /find")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _as_networks(cls, value: list[str]) -> list[str]:
        for one in value if value != ["*"] else ():
            ip_network(one)  # raises a ValueError that says what is wrong; uvicorn would trust no proxy
        return value

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def writable(self) -> bool:
        """Whether the catalogue can be changed at all."""
        return self.loopback or self.api_key is not None
