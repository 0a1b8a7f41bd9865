"""Work that is done again and again and must survive whatever a single round meets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from nova_operator.cluster import ClusterError, StaleError

Work = Literal["read the certificate", "tend the certificate", "find pods without sidecar"]
"""What a round is for, as the log calls it."""

log = structlog.get_logger()


async def rounds(work: Work, job: Callable[[], Awaitable[float]], retry: float) -> None:
    """Do the job until cancelled. It returns the seconds until the next round; `retry` are those after a failure."""
    while True:
        try:
            wait = await job()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            wait = retry  # only a call inside was cancelled, by Kopf as it stopped
        except StaleError as error:
            log.debug("work postponed", work=work, error=str(error), retry_in=retry)
            wait = retry
        except ClusterError as error:
            log.warning("work postponed", work=work, error=str(error), retry_in=retry)
            wait = retry
        except Exception:  # a fault of ours must not end the rounds
            log.exception("work failed", work=work, retry_in=retry)
            wait = retry
        await asyncio.sleep(wait)
