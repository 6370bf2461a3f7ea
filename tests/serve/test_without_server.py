"""What is refused by a request's head and size alone, and what a change leaves behind; without a server."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from uploads import jpeg, saved, text

from fashion.errors import FashionError
from fashion.serve import changes, uploads
from fashion.serve.errors import ApiError
from fashion.serve.limits import Limits, check_writer
from fashion.serve.schemas import ChangedItem, NewItem
from fashion.serve.settings import Settings
from fashion.serve.uploads import check_count, check_pixels
from fashion.tasks.serve import make_service


def scope(path: str = "/v1/search", client: str = "127.0.0.1", **headers: str) -> dict[str, Any]:
    given = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http", "method": "POST", "path": path, "client": (client, 5000), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip


def answered(limits: Limits, asked: dict[str, Any], body: bytes = b"") -> tuple[int, dict[str, str]]:
    """The status and the headers of an answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(limits(asked, receive, send))  # type: ignore[arg-type]
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def limits(**settings: Any) -> Limits:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Limits(app, Settings(**settings))


def test_a_request_may_be_as_long_as_the_limit_and_no_longer():
    at_most = limits(max_upload_mb=0.001)
    for length, status in ((1000, 200), (1001, 413)):
        assert answered(at_most, scope(content_length=str(length)), bytes(min(length, 1000)))[0] == status
    with pytest.raises(ApiError, match=r"larger than 0.001 MB"):  # of a length that was not said
        answered(at_most, scope(), bytes(1001))


def test_below_a_path_checks_have_no_rate_and_the_documentation_its_script():
    below = limits(root_path="/find", rate_limit=0.1)
    for path in ("/find/healthz", "/find/readyz", "/find/metrics"):
        assert [answered(below, scope(path))[0] for _ in range(3)] == [200] * 3
    assert [answered(below, scope(client="10.0.0.1"))[0] for _ in range(2)] == [200, 429]
    _, headers = answered(below, scope("/find/docs"))
    assert "'unsafe-inline'" in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_a_server_for_others_answers_to_any_host():
    assert answered(limits(host="0.0.0.0", api_key="open-sesame"), scope(host="shop.example"))[0] == 200
    assert answered(limits(), scope(host="shop.example"))[0] == 400


def refused(settings: Settings, **asked: str) -> str | None:
    try:
        check_writer(Request(scope(**asked)), settings, writable=True)
    except ApiError as error:
        return error.code
    return None


def test_who_may_change_a_catalogue_without_a_key():
    open_here = Settings()
    assert refused(open_here) is None
    assert refused(open_here, client="::1", origin="http://127.0.0.1:8000") is None
    assert refused(open_here, client="192.168.1.5") == "read_only"
    assert refused(open_here, origin="http://127.0.0.1:9000") == "foreign_origin"
    for name in ("forwarded", "via", "x_forwarded_for", "x_forwarded_host"):
        assert refused(open_here, **{name: "shop.example"}) == "read_only"
    assert refused(Settings(host="0.0.0.0")) == "read_only"


def test_a_key_comes_in_either_header():
    keyed = Settings(api_key="open-sesame")
    assert refused(keyed, authorization="Bearer open-sesame") is refused(keyed, x_api_key="open-sesame") is None
    assert [refused(keyed), refused(keyed, authorization="Bearer open")] == ["no_key", "wrong_key"]


def test_pictures_are_counted_up_to_the_limit(monkeypatch):
    check_count(3, 3)
    with pytest.raises(ApiError, match="At most 3 pictures"):
        check_count(4, 3)
    picture = saved("PNG", (20, 10))
    check_pixels([picture] * 5, 1000)
    with pytest.raises(ApiError, match="too many pixels together"):
        check_pixels([picture] * 5, 999)
    check_pixels([saved("JPEG", (40, 40))], 200)
    monkeypatch.setattr(uploads, "MAX_PIXELS", 1000)  # above it a JPEG is refused, not decoded smaller
    with pytest.raises(ApiError, match="40×40"):
        check_pixels([saved("JPEG", (40, 40))], 200)


def test_a_picture_that_is_kept_counts_as_large_as_it_is_decoded(served_folder):
    service = make_service(served_folder, None, Settings(max_pixels=1_000_000))
    large = NewItem(external_id="a", image=text(saved("JPEG", (1500, 1500))))
    (answer,) = changes.added(service.engine, service, [large])
    assert (answer.status, "1500×1500" in str(answer.message)) == ("refused", True)


def test_each_row_of_a_change_is_refused_for_itself_and_leaves_no_picture(served_folder):
    service = make_service(served_folder, None, Settings())
    answers = changes.updated(
        service.engine,
        service,
        [
            ChangedItem(external_id="hat/0.png", columns={"season": 5}, image=text(b"no picture")),
            ChangedItem(external_id="hat/1.png", columns={"season": "summer"}),
            ChangedItem(external_id="hat/1.png", columns={"season": "winter"}),
            ChangedItem(external_id="hat/2.png", columns={"season": 7}, image=text(jpeg())),
        ],
    )
    assert [one.status for one in answers] == ["refused", "changed", "refused", "refused"]
    assert "comes twice" in str(answers[2].message)
    assert "'season'" in str(answers[3].message)
    assert not list((served_folder / "pictures").iterdir())


@pytest.mark.parametrize(
    ("change", "item"), [(changes.added, NewItem(external_id="a", image=text(jpeg()))),
                         (changes.updated, ChangedItem(external_id="hat/0.png", image=text(jpeg())))],
)  # fmt: skip
def test_pictures_are_on_the_disk_before_their_version_is(served_folder, monkeypatch, change, item):
    service = make_service(served_folder, None, Settings())
    flushed: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        flushed.append(os.path.relpath(Path(f"/proc/self/fd/{handle}").readlink(), served_folder.resolve()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    change(service.engine, service, [item])
    (picture,) = (served_folder / "pictures").iterdir()
    before = flushed[: flushed.index("versions")]
    assert {f"pictures/{picture.name}", "pictures"} <= {*before}
    assert any(Path(path).parent.name == "versions" for path in before)  # the version's own folder


def test_pictures_of_a_version_that_was_written_stay_whatever_fails_then(served_folder, monkeypatch):
    service = make_service(served_folder, None, Settings())
    add_items = changes.add_items

    def failing(*arguments: Any) -> None:
        add_items(*arguments)
        raise RuntimeError("a bug")

    monkeypatch.setattr(changes, "add_items", failing)
    with pytest.raises(RuntimeError):
        changes.added(service.engine, service, [NewItem(external_id="a", image=text(jpeg()))])
    assert len(list((served_folder / "pictures").iterdir())) == 1


def test_an_item_that_comes_twice_is_added_once(served_folder):
    service = make_service(served_folder, None, Settings())
    twice = [NewItem(external_id="a", image=text(jpeg(colour))) for colour in ("hat", "dress")]
    answers = changes.added(service.engine, service, twice)
    assert [(one.status, one.id) for one in answers] == [("added", 18), ("refused", None)]
    assert "comes twice" in str(answers[1].message)
    assert len(list((served_folder / "pictures").iterdir())) == 1


def test_whole_numbers_have_64_bits():
    changes.check_columns({"least": -(2**63), "most": 2**63 - 1})
    for number in (-(2**63) - 1, 2**63):
        with pytest.raises(FashionError, match="whole numbers have 64 bits"):
            changes.check_columns({"n": number})
