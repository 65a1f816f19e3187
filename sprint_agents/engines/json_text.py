"""JSON as servers send it: integers of any length, and characters in halves."""

import json


def read_json(text: str) -> object:
    """Read JSON; an integer with more digits than Python reads becomes an infinity.

    >>> read_json('{"tokens": 7, "odd": 1' + "0" * 5000 + "}")
    {'tokens': 7, 'odd': inf}

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    except ValueError:
        return json.loads(text, parse_int=_read_integer)


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else float(digits)


def join_halves(text: str) -> str:
    r"""Join surrogate pairs into characters; a half without its other half becomes U+FFFD.

    >>> join_halves("\ud83d\ude00 \ud83d!") == "\U0001f600 \ufffd!"
    True
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
