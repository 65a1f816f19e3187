"""Incremental detokenizing: the text of a completion while its tokens arrive, and the stop texts in it."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Turns tokens into text one at a time. The bytes of a character are held back until the character is complete."""

    __slots__ = ("_before", "_emitted", "_ids", "_recent", "_stop_texts", "_stream", "_tokenizer", "_window")

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop_texts: Sequence[str]) -> None:
        # Some tokenizers drop the space before the first word of a text. After the prompt's last token, the completion
        # does not begin a text, so that token is decoded with it.
        self._ids = list(prompt[-1:])
        self._before = tokenizer.decode(self._ids, skip_special_tokens=False)
        if self._before.endswith(_INCOMPLETE):
            self._ids, self._before = [], ""
        self._stream = DecodeStream(ids=self._ids, skip_special_tokens=False)
        self._tokenizer = tokenizer
        self._stop_texts = stop_texts
        self._window = max(map(len, stop_texts), default=1) - 1
        self._recent = ""
        self._emitted = len(self._before)

    def feed(self, token: int) -> tuple[str, str | None]:
        """Return the text that ``token`` completes, and the stop text that this text completes, if any."""
        self._ids.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._emitted += len(text)
        if not text or not self._stop_texts:
            return text, None
        # A stop text may begin in earlier tokens: with the stop text "END" and the tokens "E", "N", "D", the window
        # holds "EN" when "D" arrives.
        recent = self._recent + text
        self._recent = recent[-self._window :] if self._window else ""
        # The stop text that ends first counts; of several with the same end, the longest.
        ends = [(recent.find(stop) + len(stop), -len(stop), stop) for stop in self._stop_texts if stop in recent]
        return text, min(ends)[2] if ends else None

    def flush(self) -> str:
        """Return the text that was still held back, with replacement characters for an incomplete character."""
        return self._tokenizer.decode(self._ids, skip_special_tokens=False)[self._emitted :]
