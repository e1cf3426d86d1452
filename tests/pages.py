"""A page as a person finds it: its text, its forms and fields, read strictly out of HTML; and what each page must keep.

How it was fetched is elsewhere: `forms.py` is a browser without a script, `browsers.py` drives a real one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
UNSEEN = frozenset({"script", "style", "template", "head", "title"})
#: Their value is sent by being pressed, or never.
NOT_TYPED = frozenset({"submit", "button", "image", "reset", "hidden"})


#: What goes into a field: text, a tick, or the value of a choice.
Value = str | bool


@dataclass(eq=False)
class Element:
    """An element of a page; the one around all is called `#page`."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: "list[Element | str]" = field(default_factory=list)
    parent: "Element | None" = None

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def walk(self) -> "Iterator[Element]":
        """This element and all below it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags: str, **attributes: str) -> "list[Element]":
        """Those below with one of the tags and all of the attributes (`role="alert"`); `class_` is one of several."""
        return [element for element in self.walk() if element is not self and element.matches(tags, attributes)]

    def only(self, *tags: str, **attributes: str) -> "Element":
        """The one of `all`."""
        found = self.all(*tags, **attributes)
        assert len(found) == 1, f"{len(found)} elements {tags} {attributes} in: {self.text}"
        return found[0]

    def matches(self, tags: tuple[str, ...], attributes: Mapping[str, str]) -> bool:
        if tags and self.tag not in tags:
            return False
        wanted = dict(attributes)
        name = wanted.pop("class_", None)
        return (name is None or name in self["class"].split()) and wanted.items() <= self.attributes.items()

    @property
    def text(self) -> str:
        """What can be read of it, in one line."""
        return " ".join("".join(self._pieces()).split())

    @property
    def is_seen(self) -> bool:
        return self.tag not in UNSEEN and "hidden" not in self.attributes

    def _pieces(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            elif child.is_seen:
                # What stands in two elements is two words, except inside a code that is drawn in groups.
                yield from ("" if self.tag == "code" else " ", *child._pieces(), "" if self.tag == "code" else " ")


class Reader(HTMLParser):
    """Makes the tree, and refuses what a browser would silently mend."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self._inside = Element("#page")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attributes}, parent=self._inside)
        self._inside.children.append(element)
        if tag not in VOID:
            self._inside = element

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._inside.tag, f"</{tag}> closes <{self._inside.tag}> {self._inside.attributes}"
        assert self._inside.parent is not None
        self._inside = self._inside.parent

    def handle_data(self, data: str) -> None:
        self._inside.children.append(data)


def read_html(text: str) -> Element:
    """The page as a tree; fails where tags do not close each other."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader._inside is reader.root, f"<{reader._inside.tag}> {reader._inside.attributes} is never closed"
    return reader.root


class Form:
    """A form of a page, with what is in its fields."""

    def __init__(self, element: Element, url: str) -> None:
        self.element = element
        self.method = (element["method"] or "get").upper()
        self.action = urljoin(url, element["action"] or url)
        self.controls = [control for control in element.all("input", "select", "textarea", "button") if control["name"]]
        self.buttons = [
            button for button in element.all("button", "input") if (button["type"] or "submit") in ("submit", "image")
            and (button.tag == "button" or button["type"])
        ]  # fmt: skip

    @property
    def fields(self) -> list[str]:
        """The names of what a person can fill in."""
        return [
            control["name"] for control in self.controls
            if control.tag != "button" and control["type"] not in NOT_TYPED and "disabled" not in control.attributes
        ]  # fmt: skip

    def control(self, name: str) -> Element:
        return next(control for control in self.controls if control["name"] == name)

    def find_button(self, press: str | None) -> Element | None:
        """The button `name=value`, or `name`, or with that text; without a wish the first one, as Enter presses it."""
        if press is None:
            return self.buttons[0] if self.buttons else None
        return next((button for button in self.buttons if press in spellings_of(button)), None)

    def filled(self, values: Mapping[str, Value], button: Element) -> list[tuple[str, str]]:
        """The pairs that a browser would send."""
        pairs = [pair for control in self.controls for pair in _sent(control, values.get(control["name"]))]
        return [*pairs, (button["name"], button["value"])] if button["name"] else pairs

    def __repr__(self) -> str:
        buttons = [spellings_of(button)[0] for button in self.buttons]
        return f"{self.method} {urlsplit(self.action).path} fields {self.fields} buttons {buttons}"


def spellings_of(button: Element) -> list[str]:
    """How a test may name a button."""
    named = [f"{button['name']}={button['value']}", button["name"]] if button["name"] else []
    return [*named, button.text or button["value"]]


def _sent(control: Element, value: Value | None) -> list[tuple[str, str]]:
    name, kind = control["name"], control["type"]
    if control.tag == "button" or kind in ("submit", "button", "image", "reset") or "disabled" in control.attributes:
        return []
    if kind in ("checkbox", "radio"):
        own = control["value"] or "on"
        is_chosen = "checked" in control.attributes if value is None else value is True or value == own
        return [(name, own)] if is_chosen else []
    if value is not None:
        assert isinstance(value, str), f"{name} takes text"
        return [(name, value)]
    if control.tag == "textarea":
        return [(name, control.text)]
    if control.tag == "select":
        options = control.all("option")
        chosen = [option for option in options if "selected" in option.attributes] or options[:1]
        return [(name, option.attributes.get("value", option.text)) for option in chosen]
    return [(name, control["value"])]


class Page:
    """What came back: an answer, and the page in it."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], html: str) -> None:
        self.url, self.status, self.headers, self.html = url, status, headers, html
        parts = urlsplit(url)
        self.path = parts.path
        self.query = parts.query

    @cached_property
    def root(self) -> Element:
        return read_html(self.html)

    @property
    def main(self) -> Element:
        return self.root.only("main")

    @property
    def title(self) -> str:
        return "".join(str(child) for child in self.root.only("head").only("title").children).strip()

    @property
    def heading(self) -> str:
        return self.root.only("h1").text

    @property
    def text(self) -> str:
        """All that can be read on it."""
        return self.root.only("body").text

    @property
    def alert(self) -> str:
        """What it warns of, at its top or at a box that is marked as wrong; or nothing."""
        wrong = [box for box in self.root.walk() if box["aria-invalid"] == "true"]
        ids = {name for box in wrong for name in box["aria-describedby"].split()}
        said = [element for element in self.root.walk() if element["role"] == "alert" or element["id"] in ids]
        return " ".join(element.text for element in said)

    @property
    def forms(self) -> list[Form]:
        """Its forms, those of the page itself first."""
        inside = self.main.all("form")
        around = [form for form in self.root.all("form") if form not in inside]
        return [Form(form, self.url) for form in (*inside, *around)]

    @property
    def fields(self) -> set[str]:
        """The names of all fields that a person can fill in."""
        return {name for form in self.forms for name in form.fields}

    @property
    def buttons(self) -> set[str]:
        """All buttons, by each of their spellings."""
        return {spelling for form in self.forms for button in form.buttons for spelling in spellings_of(button)}

    @property
    def links(self) -> list[str]:
        """Where its links lead: path and query."""
        return [urljoin(self.url, link["href"]).removeprefix(self._origin) for link in self.root.all("a")]

    @property
    def secret(self) -> str:
        """The key to type into an app, without its spaces."""
        return self.root.only("code", id="secret").text.replace(" ", "")

    @property
    def recovery_codes(self) -> list[str]:
        return [item.text for item in self.root.all("li", class_="recovery-code")]

    def form(self, *, press: str | None = None, to: str | None = None, fields: Mapping[str, object]) -> Form:
        """The first form with these fields, this button and this target."""
        for form in self.forms:
            names = {control["name"] for control in form.controls}
            is_there = to is None or urlsplit(form.action).path == to
            if is_there and names >= fields.keys() and form.find_button(press) is not None:
                return form
        raise AssertionError(f"no form with {list(fields)}, button {press}, to {to} on {self!r}")

    @property
    def _origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def __repr__(self) -> str:
        if not self.root.all("h1") or not self.root.all("main"):
            return f"{self.status} {self.path}: {self.html[:300]}"
        return f"{self.status} {self.path} “{self.heading}” {self.alert!r} with {self.forms}"

    def check(self) -> None:
        """What holds on every page of every status; fails with a list of what does not."""
        assert "text/html" in self.headers["content-type"], self.headers
        faults = [*self._header_faults(), *self._structure_faults(), *self._form_faults()]
        assert not faults, f"{self!r}:\n" + "\n".join(faults)

    def _header_faults(self) -> Iterator[str]:
        policy = self.headers.get("content-security-policy", "")
        wanted = ("default-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'")
        for directive in wanted:
            if directive not in [part.strip() for part in policy.split(";")]:
                yield f"content-security-policy lacks {directive}: {policy}"
        if self.headers.get("referrer-policy") not in ("no-referrer", "same-origin"):
            yield f"referrer-policy is {self.headers.get('referrer-policy')}"
        if "unsafe" in policy:
            yield f"content-security-policy allows something unsafe: {policy}"
        for name, value in {
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "cross-origin-opener-policy": "same-origin",
        }.items():
            if self.headers.get(name) != value:
                yield f"{name} is {self.headers.get(name)}"

    def _structure_faults(self) -> Iterator[str]:
        root = self.root
        if len(root.all("h1")) != 1 or not self.heading:
            yield f"{len(root.all('h1'))} main headings"
        if not self.title or "Error:" in self.title[1:]:
            yield f"title {self.title!r}"
        if not root.only("html")["lang"]:
            yield "no language"
        if len(root.all("main")) != 1:
            yield "not one <main>"
        ids = [element["id"] for element in root.walk() if element["id"]]
        if twice := {name for name in ids if ids.count(name) > 1}:
            yield f"ids that are there twice: {twice}"
        for element in root.walk():
            yield from self._element_faults(element, set(ids))

    def _element_faults(self, element: Element, ids: set[str]) -> Iterator[str]:
        for name in ("for", "aria-describedby", "aria-labelledby", "aria-controls"):
            if lost := set(element[name].split()) - ids:
                yield f"<{element.tag} {name}> names {lost}, which is nowhere"
        if (positive := element["tabindex"]) and int(positive) > 0:
            yield f"<{element.tag}> with tabindex {positive}"
        if element["style"] or any(name.startswith("on") for name in element.attributes) or element.tag == "style":
            yield f"<{element.tag}> with a style or script of its own: {element.attributes}"
        if element.tag == "script" and not element["src"]:
            yield "a script inside the page"
        for name in ("src", "action", "formaction"):
            if urlsplit(urljoin(self.url, element[name])).netloc != urlsplit(self.url).netloc:
                yield f"<{element.tag} {name}> leads away: {element[name]}"

    def _form_faults(self) -> Iterator[str]:
        labelled = {label["for"] for label in self.root.all("label") if label.text}
        for form in self.forms:
            if form.method == "POST" and not any(control["name"] == "csrf" for control in form.controls):
                yield f"a form without csrf: {form}"
            # What a passkey gave is sent by the script.
            if not form.buttons and not any("data-passkey" in element.attributes for element in form.element.walk()):
                yield f"a form that cannot be sent: {form}"
            for button in form.buttons:
                if not (button.text or button["aria-label"] or button["value"]):
                    yield f"a button without a name: {form}"
            for control in form.controls:
                is_typed = control.tag != "button" and control["type"] not in NOT_TYPED
                if is_typed and control["id"] not in labelled and not _is_wrapped(control):
                    yield f"{control['name']} without a label: {form}"


def _is_wrapped(control: Element) -> bool:
    """Whether it stands inside its label."""
    around = control.parent
    while around is not None and around.tag != "label":
        around = around.parent
    return around is not None and bool(around.text)
