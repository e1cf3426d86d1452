"""The gallery: one page of all components, in any language, as tests and screenshots see it."""

import re
from pathlib import Path

from jinja2 import ChoiceLoader, FileSystemLoader, PackageLoader

from twofold import qr
from twofold.server import templates
from twofold.server.templates import Site, Templates, Visitor
from twofold.server.words import Sentence, Speech, Wait

HERE = Path(__file__).parent
HOSTILE = "Ann's \u202ephone\r\n<img src=x onerror=alert(1)>"
URI = "otpauth://totp/Twofold:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Twofold"
ICONS = re.findall('<symbol id="([a-z-]+)"', (Path(templates.__file__).parent / "templates" / "icons.svg").read_text())


def gallery(speech: Speech, now: int) -> str:
    loader = ChoiceLoader([PackageLoader("twofold.server"), FileSystemLoader(HERE)])
    return Templates(loader).render(
        "gallery.html",
        speech,
        now,
        site=Site(
            "Twofold", support="555-0100", banner=Sentence("This address is not encrypted: only use it at home.")
        ),
        visitor=Visitor("acc_ann", "Ann Example", is_administrator=True, level="full"),
        csrf="token",
        hostile=HOSTILE,
        qr=qr.svg(URI, title=speech.gettext("QR code for an authenticator app")),
        codes=["7KQ2-M4XD-9TRB-H0WZ-3NVC"] * 10,
        days=[(str(day), day * 37 % 90) for day in range(1, 15)],
        icons=ICONS,
        wait=Sentence("The next one comes in %(left)s.", {"left": Wait(12)}),
    )
