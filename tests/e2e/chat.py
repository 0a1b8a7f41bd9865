"""A WebSocket app and its clients, as programs for the image of the reference services. The clients say `started` once
all of them talk, and end with their standard input. The app hears everybody out before it ends: the sidecar may still
be closing the last conversations when the pod's time to go on (preStop and spread) is over and the app is told to end.

What the app gets it reports to the client's own pod, over a connection that no sidecar is part of: an answer over the
WebSocket would prove less, since it may be lost when its connection is closed, and the message not.
"""

APP = """\
import asyncio, os, signal
from aiohttp import web

talking = []

async def live(request):
    talking.append(request)
    try:
        return await listen(request)
    finally:
        talking.pop()

async def listen(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    host, _, port = request.query["report"].partition(":")
    _, report = await asyncio.open_connection(host, int(port))
    async for message in socket:
        report.write(f"{request.query['client']} {message.data}\\n".encode())
        await socket.send_str(message.data)
    report.close()
    await report.wait_closed()
    return socket

async def healthz(request):
    return web.Response(text=os.uname().nodename)

async def main():
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    app = web.Application()
    app.add_routes([web.get("/live", live), web.get("/healthz", healthz)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8081).start()
    await ending.wait()
    while talking:
        await asyncio.sleep(0.05)
    await runner.cleanup()

asyncio.run(main())
"""

CLIENTS = """\
import asyncio, collections, json, os, socket, sys, time
import aiohttp

url, clients, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ended, begun = asyncio.Event(), set()
sent, received, codes, refused = (collections.Counter() for _ in range(4))

async def collect(reader, writer):
    async for line in reader:
        received[line.decode().strip()] += 1
    writer.close()

async def read(chat):
    async for _ in chat:
        pass

async def talk(session, number, report):
    following = 0
    while not ended.is_set():
        try:
            async with session.ws_connect(f"{url}?client={number}&report={report}") as chat:
                reading = asyncio.create_task(read(chat))
                begun.add(number)
                if len(begun) == clients and not following:
                    print("started", flush=True)
                while not ended.is_set() and not chat.closed:
                    try:
                        await chat.send_str(str(following))
                    except ConnectionError:
                        break  # it was closed, and the message not sent
                    sent[f"{number} {following}"] += 1
                    following += 1
                    await asyncio.sleep(pause)
                if not chat.closed:
                    await chat.close()
                await reading
                codes[str(chat.close_code)] += 1
        except aiohttp.WSServerHandshakeError as error:
            refused[str(error.status)] += 1
            await asyncio.sleep(0.1)
        except aiohttp.ClientError as error:
            refused[type(error).__name__] += 1
            await asyncio.sleep(0.1)

def read_end():
    if not os.read(0, 4096):
        asyncio.get_running_loop().remove_reader(0)
        ended.set()

async def main():
    asyncio.get_running_loop().add_reader(0, read_end)
    server = await asyncio.start_server(collect, "0.0.0.0", 0)
    report = f"{socket.gethostbyname(socket.gethostname())}:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(talk(session, number, report) for number in range(clients)))
    until = time.monotonic() + 5
    while sent.keys() - received.keys() and time.monotonic() < until:
        await asyncio.sleep(0.05)
    lost, more = sent - received, received - sent
    print(json.dumps({"sent": sent.total(), "lost": sorted(lost)[:20], "more": sorted(more)[:20],
                      "codes": codes, "refused": refused}))

asyncio.run(main())
"""
