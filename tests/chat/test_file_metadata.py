"""Pictures and videos lose place, time and device, and nothing else."""

from __future__ import annotations

import io
import struct
from typing import Any

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from chat.file_metadata import exif_with, orientation_of, without_metadata

pillow_heif.register_heif_opener()
SECRET = b"SECRET-DEVICE-OF-THE-PATIENT"
TURNED = 6
FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/heic": "HEIF",
}


def phone_exif(orientation: int = TURNED) -> Image.Exif:
    """What a phone writes: where, when, with what, and how it was held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = SECRET.decode()
    exif[ExifTags.Base.DateTime] = "2026:11:27 08:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return exif


def picture(format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 40), 50).convert("RGB").save(file, format_, exif=phone_exif(), **options)
    return file.getvalue()


def pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.parametrize("content_type", FORMATS)
def test_picture_loses_metadata_and_keeps_every_pixel(content_type: str) -> None:
    content = picture(FORMATS[content_type])
    assert SECRET in content
    clean = without_metadata(content, content_type)
    assert SECRET not in clean
    with Image.open(io.BytesIO(clean)) as image:
        exif = image.getexif()
        assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert set(exif) <= {ExifTags.Base.Orientation}
    assert pixels(clean) == pixels(content)
    assert without_metadata(clean, content_type) == clean


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/webp"])
def test_orientation_is_kept(content_type: str) -> None:
    clean = without_metadata(picture(FORMATS[content_type]), content_type)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == TURNED


def test_jpeg_loses_xmp_comments_and_what_follows_its_end() -> None:
    content = picture("JPEG", xmp=SECRET, comment=SECRET, progressive=True) + SECRET
    assert content.count(SECRET) == 4
    clean = without_metadata(content, "image/jpeg")
    assert SECRET not in clean
    assert clean.endswith(b"\xff\xd9")
    assert pixels(clean) == pixels(content)


def test_jpeg_keeps_its_colour_profile() -> None:
    content = picture("JPEG", icc_profile=b"a profile of colours")
    with Image.open(io.BytesIO(without_metadata(content, "image/jpeg"))) as image:
        assert image.info["icc_profile"] == b"a profile of colours"


def test_png_loses_its_texts() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", SECRET.decode())
    texts.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    content = picture("PNG", pnginfo=texts)
    clean = without_metadata(content, "image/png")
    assert SECRET in content
    assert SECRET not in clean
    assert pixels(clean) == pixels(content)


def test_gif_loses_its_comment_and_keeps_every_frame() -> None:
    file = io.BytesIO()
    frames = [Image.effect_noise((20, 20), 50).convert("P") for _ in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], loop=0, comment=SECRET)
    content = file.getvalue()
    clean = without_metadata(content, "image/gif")
    assert SECRET in content
    assert SECRET not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 0)


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


PLACE = b"+52.5200+013.4050/"
VIDEO = (
    box(b"ftyp", b"mp42\x00\x00\x00\x00mp42")
    + box(b"mdat", b"samples" * 10)
    + box(
        b"moov",
        box(b"mvhd", bytes(100)),
        box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(PLACE), 0x15C7), PLACE)),
        box(b"trak", box(b"tkhd", bytes(84)), box(b"meta", PLACE)),
        box(b"meta", b"com.apple.quicktime.location.ISO6709", PLACE),
    )
    + box(b"uuid", bytes(16), PLACE)
)


@pytest.mark.parametrize("content_type", ["video/mp4", "video/quicktime", "video/3gpp", "audio/mp4"])
def test_video_loses_its_place_and_moves_no_sample(content_type: str) -> None:
    clean = without_metadata(VIDEO, content_type)
    assert VIDEO.count(PLACE) == 4
    assert PLACE not in clean
    assert len(clean) == len(VIDEO)
    assert clean.index(b"samples" * 10) == VIDEO.index(b"samples" * 10)
    assert box(b"mvhd", bytes(100)) in clean


def test_other_files_stay_as_they_are() -> None:
    assert without_metadata(b"%PDF-1.4\n" + SECRET, "application/pdf") == b"%PDF-1.4\n" + SECRET


@given(st.integers(1, 8))
def test_orientation_can_be_read_back(orientation: int) -> None:
    assert orientation_of(exif_with(orientation)) == orientation


SOURCES = {**{kind: picture(name) for kind, name in FORMATS.items()}, "video/mp4": VIDEO}


@given(
    kind=st.sampled_from(sorted(SOURCES)),
    cut=st.integers(0, 5000),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=20),
)
def test_malformed_file_is_cut_and_never_an_error(
    kind: str, cut: int, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SOURCES[kind])
    for at, value in changes:
        content[at % len(content)] = value
    content = content[: len(content) - cut % len(content)]
    assert len(without_metadata(bytes(content), kind)) <= len(content) + 100


def test_deeply_nested_boxes_are_read_to_a_limit() -> None:
    nested = b""
    for _ in range(5000):
        nested = struct.pack(">I", 8 + len(nested)) + b"moov" + nested
    assert without_metadata(nested, "video/mp4") == nested
