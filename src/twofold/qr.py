"""QR codes of otpauth URIs as SVG, as PNG and for a terminal.

They are made here and nowhere else: a QR service of somebody else would learn the secret.
"""

from __future__ import annotations

import base64
import io
import itertools

import segno

from twofold.errors import InvalidInput

# Modules of white on each side; scanners find the code by it (ISO/IEC 18004).
_QUIET_ZONE = 4

# Black on white out of the 256 fixed colors: the first 16 belong to the terminal's theme and may be anything.
_TERMINAL_COLORS, _TERMINAL_RESET = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_HALF_BLOCKS = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}


def svg(text: str, *, title: str = "QR code for an authenticator app") -> str:
    """An `<svg>` element to put into a page; it may be resized by CSS and needs no style of its own.

    Black on white is drawn, not inherited, because many scanners do not read the light-on-dark of a dark page.
    Raises InvalidInput when `text` is too long for a QR code.
    """
    code = _encode(text)
    image = io.BytesIO()
    code.save(
        image, kind="svg", border=_QUIET_ZONE, dark="#000", light="#fff", title=title,
        xmldecl=False, omitsize=True, svgclass=None, lineclass=None, nl=False,
    )  # fmt: skip
    width, height = code.symbol_size(scale=4, border=_QUIET_ZONE)
    # role="img": screen readers say the title instead of walking through the paths.
    return image.getvalue().decode().replace("<svg", f'<svg role="img" width="{width}" height="{height}"', 1)


def png_bytes(text: str, *, scale: int = 6) -> bytes:
    """A PNG with `scale` pixels a module. Raises InvalidInput when `text` is too long for a QR code."""
    image = io.BytesIO()
    _encode(text).save(image, kind="png", scale=scale, border=_QUIET_ZONE)
    return image.getvalue()


def png_data_uri(text: str, *, scale: int = 6) -> str:
    """The PNG as a `data:` URI for the `src` of an `<img>`."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(text, scale=scale)).decode()}"


def terminal(text: str) -> str:
    """Lines of half blocks, two rows of modules each, with colors that scan on dark and on light terminals.

    Raises InvalidInput when `text` is too long for a QR code.
    """
    rows = [bytes(row) for row in _encode(text).matrix_iter(border=_QUIET_ZONE)]
    lines = []
    for upper, lower in itertools.zip_longest(rows[::2], rows[1::2], fillvalue=bytes(len(rows))):
        blocks = "".join(_HALF_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        lines.append(f"{_TERMINAL_COLORS}{blocks}{_TERMINAL_RESET}")
    return "\n".join(lines)


def terminal_size(text: str) -> tuple[int, int]:
    """The columns and lines that `terminal` takes."""
    width, height = _encode(text).symbol_size(border=_QUIET_ZONE)
    return int(width), -(-int(height) // 2)


def _encode(text: str) -> segno.QRCode:
    try:
        # The lowest error correction makes the fewest modules; segno raises it as far as it costs none.
        return segno.make_qr(text, error="l")
    except segno.DataOverflowError:
        raise InvalidInput("text", "at most about 2,900 bytes, as a QR code holds") from None
