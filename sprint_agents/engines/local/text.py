"""The text of a completion as its tokens come, and the stop texts in it."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_INCOMPLETE = "\ufffd"


class TextStream:
    """Turns tokens into text one by one; the bytes of an incomplete character are held back until it is complete."""

    __slots__ = ("_before", "_emitted", "_ids", "_recent", "_stop_texts", "_stream", "_tokenizer", "_window")

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop_texts: Sequence[str]) -> None:
        # Some tokenizers drop the space before a text's first word; after the prompt's last token it is none.
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
        """Return the text that ``token`` completes, and the stop text that is complete by it, if one is."""
        self._ids.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._emitted += len(text)
        if not text or not self._stop_texts:
            return text, None
        recent = self._recent + text
        self._recent = recent[-self._window :] if self._window else ""
        # The one that ends first; of several, the longest.
        ends = [(recent.find(stop) + len(stop), -len(stop), stop) for stop in self._stop_texts if stop in recent]
        return text, min(ends)[2] if ends else None

    def flush(self) -> str:
        """Return the text that was still held back, with replacement characters for what is incomplete."""
        return self._tokenizer.decode(self._ids, skip_special_tokens=False)[self._emitted :]
