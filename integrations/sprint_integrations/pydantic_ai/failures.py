"""pydantic-ai's errors as this library's."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import httpx2
from pydantic_ai.exceptions import (
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelTimeoutError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UserError,
)

from sprint_agents.engines.error_text import message_of
from sprint_agents.engines.http import failure
from sprint_agents.engines.openai.rejections import refine
from sprint_agents.errors import (
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)


@contextmanager
def translated() -> Generator[None]:
    """Raise pydantic-ai's errors as this library's; errors of other kinds pass.

    Raises:
        ConfigurationError: the model cannot do what the request or the settings ask for.
        EngineError: see the tree in ``errors``.
    """
    try:
        yield
    except UserError as error:
        raise ConfigurationError(str(error)) from error
    except UnexpectedModelBehavior as error:
        raise _behaviour(error) from error
    except ModelAPIError as error:
        raise refine(_of_provider(error)) from error
    except FallbackExceptionGroup as error:
        raise _of_group(error) from error
    except TimeoutError as error:
        raise EngineTimeout(f"the provider did not answer in time: {str(error) or type(error).__name__}") from error
    except httpx2.HTTPError as error:
        raise EngineUnavailable(
            f"the connection to the provider broke: {str(error) or type(error).__name__}"
        ) from error


def _behaviour(error: UnexpectedModelBehavior) -> EngineError:
    if isinstance(error, ContentFilterError):
        return EngineRejected(f"the provider's content filter withheld the completion: {error}")
    return EngineProtocolError(f"the provider sent an answer that cannot be understood: {error}")


def _of_provider(error: ModelAPIError) -> EngineError:
    """Return the error for a request that failed at the provider, or on the way there."""
    message = _message(error)
    match error:
        case ModelQuotaExceededError():  # waiting does not help
            return EngineRejected(f"the account has no quota or credit left: {message}")
        case ModelRateLimitError() | ModelUnavailableError():
            return EngineOverloaded(f"the provider is overloaded: {message}", retry_after=error.retry_after)
        case ModelAuthenticationError():
            return EngineRejected(f"the provider refuses access: {message}. Is the API key right?")
        case ModelHTTPError():
            return failure(error.status_code, message, retry_after=error.retry_after)
        case ModelRequestRejectedError():
            return EngineRejected(message)
        case ModelRequestTimeout() | ModelTimeoutError():
            return EngineTimeout(f"the provider did not answer in time: {message}")
        case ModelConnectionError():
            return EngineUnavailable(f"no connection to the provider: {message}")
        case _:
            return EngineUnavailable(f"the provider failed: {message}")


def _of_group(group: FallbackExceptionGroup) -> EngineError:
    """Return the error after all models of a fallback failed: one that may pass, if any may."""
    errors = [refine(_of_provider(each)) for each in group.exceptions if isinstance(each, ModelAPIError)]
    last = next((each for each in errors if each.retryable), errors[-1] if errors else None)
    if last is None:
        return EngineProtocolError(f"no model of the fallback answered: {group}")
    last.args = ("no model of the fallback answered: " + "; ".join(map(str, errors)),)
    return last


def _message(error: ModelAPIError) -> str:
    """Return the provider's own words, if there are any, with what pydantic-ai adds to them."""
    hint = "" if not isinstance(error, ModelHTTPError) or not error.hint else f". {error.hint}"
    if not isinstance(error, ModelHTTPError) or error.body is None:
        return str(error)
    body = error.body if isinstance(error.body, str) else json.dumps(error.body, default=str)
    return f"{message_of(body)}{hint}"
