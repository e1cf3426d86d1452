"""Every page in every state: what axe finds in both themes, that it fits a narrow screen; that the QR code scans."""

import base64
from pathlib import Path

import zxingcpp
from playwright.sync_api import Browser
from tests.browsers import BrowserVisitor, OpenBrowser, find_violations
from tests.people import Person, phone_of_uri
from tests.screens import walking
from tests.servers import Server

NARROW = {"width": 320, "height": 640}
WIDE = {"width": 1280, "height": 800}
#: What reaches over the right edge although nothing around it scrolls.
OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll('main *, header *, footer *')]
        .filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 120)).slice(0, 5);
}"""
#: Touch targets below 44 px, but for links inside of text.
SMALL = """() => [...document.querySelectorAll('a.button, button, select, summary, input:not([type=hidden])')]
    .filter(e => e.checkVisibility({visibilityProperty: true}))
    .map(e => [e.closest('label, .tick') ?? e, e])
    .filter(([target]) => target.getBoundingClientRect().height < 43.5)
    .map(([target, e]) => `${Math.round(target.getBoundingClientRect().height)} px: ${e.outerHTML.slice(0, 120)}`)"""

GRAYS = """async source => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const colors = context.getImageData(0, 0, image.width, image.height).data;
    const grays = new Uint8Array(image.width * image.height).map((_, pixel) => colors[4 * pixel + 1]);
    let text = '';
    for (let start = 0; start < grays.length; start += 8192)
        text += String.fromCharCode(...grays.subarray(start, start + 8192));
    return [image.width, image.height, btoa(text)];
}"""


def look(visitor: BrowserVisitor) -> list[str]:
    """What is wrong with the page that is shown."""
    tab = visitor.tab
    faults = find_violations(tab)
    tab.emulate_media(color_scheme="dark")
    faults += [f"dark: {found}" for found in find_violations(tab, ["color-contrast", "link-in-text-block"])]
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size(NARROW)
    faults += [f"runs out of 320 px: {html}" for html in tab.evaluate(OVERFLOW)]
    faults += [f"too small to touch, {said}" for said in tab.evaluate(SMALL)]
    tab.set_viewport_size(WIDE)
    return faults


def test_every_page_in_every_state_can_be_used_by_everybody(chromium: Browser, tmp_path: Path) -> None:
    faults = []
    with walking(chromium, tmp_path) as walk:
        for name, visitor in walk.stops():
            faults += [f"{name} ({visitor.path}): {fault}" for fault in look(visitor)]
            faults += [f"{name} ({visitor.path}): {complaint}" for complaint in visitor.window.complaints]
            visitor.window.complaints.clear()
    assert not faults, "\n".join(faults)


def take_grays(visitor: BrowserVisitor) -> memoryview:
    """A screenshot as rows of one byte a pixel; Chromium itself decodes it."""
    picture = base64.b64encode(visitor.tab.screenshot(full_page=True)).decode()
    canvas = visitor.window.new_tab()
    width, height, grays = canvas.evaluate(GRAYS, f"data:image/png;base64,{picture}")
    canvas.close()
    return memoryview(base64.b64decode(grays)).cast("B", (height, width))


def test_the_qr_code_on_the_page_scans_and_its_code_is_taken(
    ada: Person, server: Server, open_browser: OpenBrowser
) -> None:
    for theme, size in (("light", (1440, 900)), ("dark", (390, 844))):
        visitor = open_browser(f"http://localhost:{server.port}", theme=theme, size=size)
        person = Person(f"scanner-{theme}", visitor, ada.clock)
        person.accept(ada.invite(person.name))
        page = person.begin_app()
        (scanned,) = zxingcpp.read_barcodes(take_grays(visitor))
        assert scanned.format == zxingcpp.BarcodeFormat.QRCode
        assert scanned.text in [link["href"] for link in page.root.all("a")]
        phone = phone_of_uri(person.name, scanned.text)
        assert phone.secret == page.secret
        person.phone = phone
        person.prove_app()
        person.keep_codes()
        person.assert_signed_in()
