"""Whether Prefect's server is there and lets this user in, said before a flow starts, not by a traceback."""

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from discern.errors import SettingsError


def meet_server() -> None:
    """Ask the server of PREFECT_API_URL for its version; without that setting, flows bring a server of their own.

    Raises:
        SettingsError: it does not answer, or not to this user.
    """
    url = get_current_settings().api.url
    if url is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.api_version()
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        help_ = "set PREFECT_API_AUTH_STRING=user:password" if code == httpx.codes.UNAUTHORIZED else "see its log"
        raise SettingsError(f"Prefect's server at {url} answers {code}; {help_}") from error
    except (httpx.HTTPError, RuntimeError) as error:  # the latter is Prefect's own, for a server that is not there
        help_ = "start it (`prefect server start`), or unset PREFECT_API_URL"
        raise SettingsError(f"Prefect's server at {url} does not answer; {help_}") from error
