"""The address of a server, and the secrets that belong to it.

Invariants:

- No password, key or query leaves this module except in a request to the server itself.
- Every message that an engine on HTTP raises or logs has passed ``Secrets.mask``.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote, unquote

import httpx2

from sprint_agents.errors import ConfigurationError

_LARGEST_PORT = 65535
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""The name of a header (RFC 9110, section 5.6.2)."""
_MASK = "[secret]"
_CUT = " …"
_SHORTEST_SECRET = 4
"""Shorter secrets are placeholders or would be found in any text."""
_PLACEHOLDERS = (
    "dummy",
    "empty",
    "fake",
    "lm-studio",
    "none",
    "not-needed",
    "null",
    "ollama",
    "secret",
    "test",
    "vllm",
)
"""Keys for servers that need none. Masking them would make messages unreadable."""
_SECRET_FIELDS = ("key", "token", "secret", "sig", "pass", "code", "auth", "cookie")


class Secrets:
    """Known secrets, each in the spellings in which a message may repeat it.

    >>> Secrets(["p@ss word"]).mask("no user with 'p@ss word' at p%40ss%20word")
    "no user with '[secret]' at [secret]"
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings: set[str] = set()
        for secret in secrets:
            for form in (secret, secret.strip()):
                spellings |= {form, quote(form, safe=""), quote(form), json.dumps(form)[1:-1], repr(form)[1:-1]}
        # The longest first, so that a secret which is a part of another one does not cut it in two.
        kept = (text for text in spellings if len(text) >= _SHORTEST_SECRET and text.lower() not in _PLACEHOLDERS)
        self._spellings = sorted(kept, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Return ``text`` without the secrets, also without the beginning of one where the text was shortened."""
        for spelling in self._spellings:
            text = text.replace(spelling, _MASK)
            # A message that was shortened may end within a secret: "the key sk-1234 …".
            for length in range(len(spelling) - 1, _SHORTEST_SECRET - 1, -1) if _CUT in text else ():
                text = text.replace(spelling[:length] + _CUT, _MASK + _CUT)
        return text


class ServerAddress:
    """The parts of a server's URL.

    ``shown`` is the URL for people, without credentials and without the query, which may hold a key.

    >>> address = ServerAddress("https://me:hunter2@example.org/v1/?api-version=2024-01")
    >>> address.shown, address.at("/chat/completions")
    ('https://example.org/v1', 'https://example.org/v1/chat/completions?api-version=2024-01')

    Raises:
        ConfigurationError: the URL is invalid, or not that of a server.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            # The parser quotes what it takes for a port, which may be a part of a password.
            reason = "" if "@" in url else f": {error}"
            raise ConfigurationError(f"{shown_url(url)!r} is not a URL{reason}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigurationError(
                f"{shown_url(url)!r} is not the URL of a server: write it like http://127.0.0.1:30000"
            )
        if (parsed.port or 0) > _LARGEST_PORT:
            raise ConfigurationError(f"{shown_url(url)!r} has the port {parsed.port}: the largest is {_LARGEST_PORT}")
        path, mark, query = parsed.raw_path.decode("ascii").partition("?")
        if "@" in path:
            # In "http://me:1/2@host" the host is "me", and the rest of the password would be shown as a path.
            raise ConfigurationError(
                "the path of a server's URL contains '@': write it as %40, and '/' in a user or password as %2F"
            )
        self.shown = f"{parsed.scheme}://{parsed.netloc.decode('ascii')}{path.rstrip('/')}"
        self._query = mark + query if query else ""
        self._parsed = parsed

    def at(self, path: str) -> str:
        """Return the URL of an endpoint, with the query of the server's URL."""
        return f"{self.shown}{path}{self._query}"

    @property
    def encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return self._parsed.scheme == "https"

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine; ``0.0.0.0``, which servers print, is this machine too."""
        host = self._parsed.host
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return address.is_loopback or address.is_unspecified

    def authorization(self, api_key: str | None) -> str | None:
        """Return the ``Authorization`` header for a key or for the credentials in the URL; None if there are none.

        Raises:
            ConfigurationError: there are both, or the key cannot be sent in a header.
        """
        if not self._parsed.userinfo:
            if api_key and not _can_be_sent(api_key):
                raise ConfigurationError(
                    "api_key contains a line break or another character that no HTTP header may have: if you read it "
                    "from a file, strip() it"
                )
            return f"Bearer {api_key}" if api_key else None
        if api_key:
            raise ConfigurationError(
                f"the URL of {self.shown} contains a user or password, and there is an api_key as well: a request can "
                "carry only one of them, so leave one out"
            )
        words = f"{self._parsed.username}:{self._parsed.password}".encode()
        return f"Basic {base64.b64encode(words).decode()}"

    def secrets(self, headers: Mapping[str, str]) -> Secrets:
        """Return everything about a connection that must not be shown; ``headers`` are sent with its requests."""
        found = [self._parsed.password or self._parsed.username]
        found += [value for name, value in self._parsed.params.items() if _may_be_secret(name)]
        for name, value in headers.items():
            if _may_be_secret(name):
                found += [value, value.rpartition(" ")[2]]
        raw = self._parsed.userinfo.decode("ascii").partition(":")[2]
        with suppress(ValueError):
            found += [raw, unquote(raw)]
        return Secrets(found)

    def keeps(self, target: str) -> bool:
        """Say whether a redirect to ``target`` stays within this host and port, and stays encrypted if it was.

        Another port of a host is another server, which the key is not for. Default ports count as the same.
        """
        parsed = httpx2.URL(target)
        same = (parsed.host, parsed.port) == (self._parsed.host, self._parsed.port)
        return same and parsed.scheme in ("https", self._parsed.scheme)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that no request can have; the message has no value, which may be a secret.

    Raises:
        ConfigurationError: naming the first one.
    """
    for name, value in headers.items():
        if not (_HEADER.fullmatch(name) and _can_be_sent(value)):
            raise ConfigurationError(
                f"the header {name!r} cannot be sent: a name has letters, digits and '-' only, and a value no line "
                "breaks, no white space around it and ASCII characters only. If you read it from a file, strip() it"
            )


def _can_be_sent(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


def redirect_target(url: str, location: str) -> str | None:
    """Return the URL that a redirect of ``url`` leads to, without credentials; None if it has no valid one.

    >>> redirect_target("http://example.org/v1", "//me:hunter2@example.com/v2#top")
    'http://example.com/v2'
    """
    try:
        target = httpx2.URL(url).join(location) if location else None
    except httpx2.InvalidURL:
        return None
    return str(target.copy_with(userinfo=b"", fragment=None)) if target else None


def shown_url(url: str) -> str:
    """Return a URL for people, without what may be secret in it; it may be invalid.

    >>> shown_url("http://me:hunter2@example.org/v1?key=1"), shown_url("http://me:a#b@example.org")
    ('http://example.org/v1', 'http://…')
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        # An unescaped password may contain any character, so no part of such a URL is surely harmless.
        return f"{url.partition('://')[0]}://…" if "://" in url and "@" in url else "…" if "@" in url else url
    origin = f"{parsed.scheme}://{parsed.netloc.decode('ascii')}" if parsed.scheme and parsed.host else ""
    if not origin and "@" in url:
        return "…"
    return origin + parsed.raw_path.decode("ascii").partition("?")[0]


def _may_be_secret(name: str) -> bool:
    return any(part in name.lower() for part in _SECRET_FIELDS)
