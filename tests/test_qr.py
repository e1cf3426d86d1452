import base64
import re
import struct
import zlib
from xml.etree import ElementTree as ET

import pytest
import zxingcpp

from twofold import qr
from twofold.errors import InvalidInput

URI = (
    "otpauth://totp/ACME%20Co:alice@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    "&issuer=ACME%20Co&algorithm=SHA1&digits=6&period=30"
)
TEXTS = [URI, "otpauth://totp/%E6%97%A5%E6%9C%AC:%E5%A4%AA%E9%83%8E?secret=" + "A" * 208, "https://example.com/", "é"]
QUIET_ZONE = 4


def scanned(pixels: list[bytes], *, enlarge: int = 1) -> str:
    """What a scanner reads in an image, one that does not try the light-on-dark of an inverted code."""
    rows = [bytes(gray for gray in row for _ in range(enlarge)) for row in pixels for _ in range(enlarge)]
    image = memoryview(b"".join(rows)).cast("B", (len(rows), len(rows[0])))
    (found,) = zxingcpp.read_barcodes(image, try_invert=False)
    text: str = found.text
    return text


def pixels_of_png(png: bytes) -> list[bytes]:
    """Rows of a PNG with one bit a pixel and the filters "none" and "up", as segno writes it (PNG §9)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    data, place = {}, 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        data[png[place + 4 : place + 8]] = png[place + 8 : place + 8 + length]
        place += length + 12
    width, height, depth, color = struct.unpack_from(">IIBB", data[b"IHDR"])
    assert (depth, color) == (1, 0)
    lines = zlib.decompress(data[b"IDAT"])
    stride = 1 + (width + 7) // 8
    row, pixels = bytes(stride - 1), []
    for start in range(0, height * stride, stride):
        kind, line = lines[start], lines[start + 1 : start + stride]
        assert kind in (0, 2)
        row = line if kind == 0 else bytes((one + above) % 256 for one, above in zip(line, row, strict=True))
        pixels.append(bytes(255 * (row[x // 8] >> (7 - x % 8) & 1) for x in range(width)))
    return pixels


def pixels_of_svg(svg: str) -> list[bytes]:
    """One pixel a module, drawn as the two paths say: a white square, then black strokes of width 1."""
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    ground, strokes = (path.attrib for path in root.iter("{http://www.w3.org/2000/svg}path"))
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    assert ground == {"fill": "#fff", "d": f"M0 0h{width}v{height}h-{width}z"}
    assert strokes.keys() == {"stroke", "d"}
    assert strokes["stroke"] == "#000"
    image = [bytearray(b"\xff" * width) for _ in range(height)]
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-\d. ]+)", strokes["d"]):
        values = [float(number) for number in numbers.split()]
        if command == "h":
            start, end = int(x), int(x + values[0])
            image[int(y)][start:end] = bytes(end - start)
            x = end
        else:
            x, y = values if command == "M" else (x + values[0], y + values[1])
    return [bytes(row) for row in image]


def pixels_of_terminal(text: str) -> list[bytes]:
    """One pixel a half block, in the colors that the escape codes fix (xterm: 16 is black, 231 is white)."""
    pixels = []
    for line in text.split("\n"):
        colored = re.fullmatch(r"\x1b\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\[0m", line)
        assert colored is not None
        pixels.append(bytes(0 if block in "▀█" else 255 for block in colored[1]))
        pixels.append(bytes(0 if block in "▄█" else 255 for block in colored[1]))
    return pixels


@pytest.mark.parametrize("text", TEXTS)
def test_a_phone_reads_the_same_text_from_each_form(text: str) -> None:
    assert scanned(pixels_of_png(qr.png_bytes(text))) == text
    assert scanned(pixels_of_svg(qr.svg(text)), enlarge=4) == text
    assert scanned(pixels_of_terminal(qr.terminal(text)), enlarge=4) == text


def test_dark_modules_stand_on_white_with_a_quiet_zone_in_each_form() -> None:
    for pixels, scale in (
        (pixels_of_png(qr.png_bytes(URI, scale=3)), 3),
        (pixels_of_svg(qr.svg(URI)), 1),
        (pixels_of_terminal(qr.terminal(URI)), 1),
    ):
        zone = QUIET_ZONE * scale
        assert {gray for row in pixels[:zone] + pixels[-zone:] for gray in row} == {255}
        assert {gray for row in pixels for gray in row[:zone] + row[-zone:]} == {255}
        assert pixels[zone][zone] == 0


def test_the_svg_can_stand_in_a_page_under_a_strict_policy_and_be_read_aloud() -> None:
    svg = qr.svg(URI, title='Key of <alice> & "bob"')
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    assert svg.startswith("<svg ")
    assert root.attrib["role"] == "img"
    assert root.findtext("{http://www.w3.org/2000/svg}title") == 'Key of <alice> & "bob"'
    assert not re.search(r"style|class|currentColor|script|href", svg)
    assert "secret" not in svg


def test_the_svg_has_a_size_and_may_be_given_another() -> None:
    root = ET.fromstring(qr.svg(URI))  # noqa: S314 - our own output
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    assert (int(root.attrib["width"]), int(root.attrib["height"])) == (4 * width, 4 * height)


def test_the_data_uri_holds_the_png() -> None:
    kind, _, data = qr.png_data_uri(URI, scale=2).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == qr.png_bytes(URI, scale=2)


def test_the_terminal_form_of_an_ordinary_uri_fits_a_terminal_of_80_columns() -> None:
    lines = qr.terminal(URI).split("\n")
    assert max(len(pixels) for pixels in pixels_of_terminal("\n".join(lines))) <= 80
    assert len(lines) <= 30


@pytest.mark.parametrize("draw", [qr.svg, qr.png_bytes, qr.png_data_uri, qr.terminal])
def test_text_that_no_qr_code_holds_is_refused(draw: object) -> None:
    assert callable(draw)
    assert draw("x" * 2900)
    with pytest.raises(InvalidInput, match="2,900"):
        draw("x" * 3000)


def test_the_size_that_is_told_is_the_size_that_is_drawn() -> None:
    lines = qr.terminal(URI).split("\n")
    width, height = qr.terminal_size(URI)
    assert len(lines) == height
    assert {len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines} == {width}
