"""Runs a consumer until the process is asked to end, with /metrics and /healthz."""

import asyncio
import signal
from typing import Final

from nova_data.consumer.consumer import Consumer
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.logs import configure, get_logger
from nova_data.pages import served

PORT: Final = 9465
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def serve(consumer: Consumer, metrics: ConsumerMetrics, *, host: str = "0.0.0.0", port: int = PORT) -> None:  # noqa: S104 - a pod's own
    """Run it until SIGTERM or SIGINT, and let what is under way come to its end. `port` 0 is any that is free. The
    log lines of the process are JSON, with the group's name as the service.

    Raises ConsumerError, and ListenError where the port is taken.
    """
    configure(consumer.group)
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        get_logger().info("ending", signal=number.name)
        consumer.stop()

    for number in SIGNALS:
        loop.add_signal_handler(number, told, number)
    try:
        with served(host, port, metrics.registry, consumer.health) as bound:
            get_logger().info("pages served", address=f"{host}:{bound}")
            await consumer.run()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
