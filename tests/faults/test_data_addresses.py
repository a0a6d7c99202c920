"""Row 25: ``data:`` addresses are refused on kind, size and count before anything is decoded."""

from __future__ import annotations

import base64
import io
import tracemalloc

import pytest
from PIL import Image

from kinema.errors import MediaError, NotMedia, TooLarge
from kinema.video import Access, Budget, load_frames, server_access
from support.clips import board

pytestmark = pytest.mark.fault(25)


def frame(width: int = 96, height: int = 64) -> str:
    buffer = io.BytesIO()
    Image.fromarray(board(1, height=height, width=width)).save(buffer, "jpeg")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("address", "kind", "text"),
    [
        ("data:video/mp4;base64,@@@@", NotMedia, "damaged base64"),
        ("data:video/mp4;base64,AAA", NotMedia, "damaged base64"),
        ("data:video/mp4;base64,é", NotMedia, "damaged base64"),
        ("data:video/mp4;base64,", NotMedia, "is empty"),
        ("data:video/mp4,plain", NotMedia, "not in base64"),
        ("data:video/mp4;base64", NotMedia, "no video or picture"),
        ("data:text/html;base64,PGh0bWw+", NotMedia, "text/html is no video"),
        ("data:;base64,AAAA", NotMedia, "no video or picture"),
        ("data:video/mp4;base64,PGh0bWw+AAAA", NotMedia, "error page"),
        ("data:video/jpeg;base64,", NotMedia, "is empty"),
        (f"data:video/jpeg;base64,{frame()},,{frame()}", NotMedia, "is empty"),
        (f"data:video/jpeg;base64,{frame()},AAAA", MediaError, "image|text"),
        ("data:video/mp4;base64,AAAAIGZ0eXBpc29tAAACAGlzb21pc28yYXZjMW1wNDE=", MediaError, "moov"),
    ],
)
def test_what_is_wrong_is_named(address: str, kind: type[MediaError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        load_frames(address)
    assert caught.value.hint
    assert len(str(caught.value)) < 200


def test_size_is_refused_before_decoding() -> None:
    body = "A" * (40 << 20)
    access = Access(budget=Budget(num_bytes=1 << 20))
    address = f"data:video/mp4;base64,{body}"
    tracemalloc.start()
    with pytest.raises(TooLarge, match="1,048,576 are allowed"):
        load_frames(address, access=access)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_ten_thousand_frames_are_refused_before_decoding() -> None:
    address = "data:video/jpeg;base64," + ",".join(["broken!"] * 10_000)
    with pytest.raises(TooLarge, match="10,000 frames"):
        load_frames(address, access=server_access())


def test_a_picture_of_enormous_size_in_a_list_is_refused_from_its_header() -> None:
    image = Image.new("RGB", (9000, 9000))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    listed = base64.b64encode(buffer.getvalue()).decode()
    tracemalloc.start()
    with pytest.raises(TooLarge, match="9000×9000"):
        load_frames(f"data:video/jpeg;base64,{listed}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20
