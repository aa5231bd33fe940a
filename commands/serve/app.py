"""What each address of the page answers."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from commands.predict.inputs import MAX_BYTES, Picture, Unreadable, jpeg
from commands.predict.model import MAX_PIXELS, Model
from commands.predict.output import NOTICE
from commands.serve import answers
from commands.serve.asking import Network
from commands.serve.guard import Guard, add_headers
from commands.serve.readers import SHOWN, Read, Readers
from commands.serve.series import Place
from commands.serve.study import about, examples
from commands.serve.uploads import FILES, Upload, Uploads
from stages.report.gradcam import STRENGTH
from stages.verify.decode import DecodeError
from stages.verify.picture import located
from stages.verify.picture import read as read_picture

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
AHEAD = 4  # files of one request that are read at a time


def application(model: Model, guard: Guard) -> web.Application:
    """Return the page's server."""
    app = web.Application(middlewares=[guard.middleware()])
    app.on_response_prepare.append(add_headers)
    desk = Desk(model)
    app.cleanup_ctx.append(desk.open)
    for path in sorted(PAGE.iterdir()):
        app.router.add_get("/" if path.name == "index.html" else f"/{path.name}", _file(path))
    app.router.add_get("/study", desk.study)
    app.router.add_get("/training", desk.training)
    app.router.add_get("/example", desk.example)
    app.router.add_post("/ask", desk.ask)
    app.router.add_post("/heat", desk.heat)
    return app


def _file(path: Path) -> Any:
    data, kind = path.read_bytes(), KINDS[path.suffix]

    async def given(_request: web.Request) -> web.Response:
        return web.Response(body=data, content_type=kind, charset="utf-8")

    return given


class Desk:
    """Where questions are taken."""

    def __init__(self, model: Model) -> None:
        """Read nothing yet."""
        self.model, self.uploads = model, Uploads()
        self.seen = frozenset(model.training)

    async def open(self, _app: web.Application) -> AsyncIterator[None]:
        """Start what answers, and end it with the server."""
        self.network = Network(self.model)
        self.readers = Readers(self.model.meta.image_size, self.model.about.prepare, self.model.about.volumes.axis)
        yield
        self.readers.close()
        self.network.close()

    async def study(self, _request: web.Request) -> web.Response:
        """Say what is asked here."""
        limits = {"bytes": MAX_BYTES, "files": FILES}
        page = {"notice": NOTICE, "strength": STRENGTH, "heading": answers.heading(self.model.classes)}
        return web.json_response(about(self.model) | page | {"limits": limits})

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Answer a form of files, one JSON object a line and a picture, in their order."""
        async with self.uploads.received(request) as files:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            async for line in self._answers(files):
                await response.write(json.dumps(line).encode() + b"\n")
            await response.write_eof()
            return response

    async def _answers(self, files: list[Upload | Unreadable]) -> AsyncIterator[dict[str, Any]]:
        waiting: list[tuple[Picture, Place] | Unreadable] = []
        async for read in self._read(files):
            for found in read.found:
                waiting.append(found if isinstance(found, Unreadable) else (found, read.place))
                if len(waiting) == self.model.about.batch_size:
                    for line in await self._said(waiting):
                        yield line
                    waiting = []
        for line in await self._said(waiting):
            yield line

    async def _read(self, files: list[Upload | Unreadable]) -> AsyncIterator[Read]:
        """Yield what is in each file, in their order."""
        waiting: deque[asyncio.Task[Read]] = deque()
        try:
            for file in files:
                waiting.append(asyncio.create_task(self._read_one(file)))
                if len(waiting) == AHEAD:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()

    async def _read_one(self, file: Upload | Unreadable) -> Read:
        if isinstance(file, Unreadable):
            return Read([file], Place())
        read = await self.readers.read(file.file())
        return read._replace(found=[each._replace(path=file.name) for each in read.found])

    async def _said(self, waiting: list[tuple[Picture, Place] | Unreadable]) -> list[dict[str, Any]]:
        asked = [each for each in waiting if not isinstance(each, Unreadable)]
        said = iter(await self.network.ask([picture for picture, _ in asked]))
        return [
            answers.unreadable(each) if isinstance(each, Unreadable) else answers.answer(next(said), *each)
            for each in waiting
        ]

    async def heat(self, request: web.Request) -> web.Response:
        """Show where the network looked in a picture, which comes as it sees it, for one class."""
        side, label = self.model.meta.image_size, request.query.get("class", "")
        data = await request.content.read(side * side + 1)
        while len(data) <= side * side and (more := await request.content.read(side * side + 1 - len(data))):
            data += more
        if label not in self.model.classes or len(data) != side * side:
            raise web.HTTPBadRequest(text=f"expected a class of this study and {side} x {side} grey levels\n")
        image = np.frombuffer(bytearray(data), np.uint8).reshape(side, side)  # torch wants it writable
        heat = await self.network.heat(image, self.model.classes.index(label))
        return web.Response(body=answers.heat_png(heat), content_type="image/png")

    async def training(self, request: web.Request) -> web.Response:
        """Show a training image, cut as the network saw it."""
        path = request.query.get("path", "")
        if path not in self.seen:
            raise web.HTTPNotFound(text="no training image of this study\n")
        try:
            return web.Response(body=await asyncio.to_thread(self._look, path), content_type="image/jpeg")
        except (OSError, DecodeError):
            raise web.HTTPNotFound(text="its file is not in data/raw: `dvc pull data/raw` brings it\n") from None

    def _look(self, path: str) -> bytes:
        grey = read_picture(self.model.study / "data/raw", path, MAX_PIXELS).grey
        return jpeg(grey, SHOWN, self.model.about.prepare)

    async def example(self, request: web.Request) -> web.Response:
        """Give a test image of the study, for whoever has none at hand."""
        found = examples(self.model.study, tuple(self.model.folds))
        number = request.query.get("number", "0")
        if not found or not number.isdecimal():
            raise web.HTTPNotFound(text="no test image in data/raw\n")
        path = found[int(number[:9]) % len(found)]
        try:
            data = await asyncio.to_thread(located(self.model.study / "data/raw", path)[0].read_bytes)
        except OSError:
            raise web.HTTPNotFound(text="its file in data/raw cannot be read\n") from None
        name = json.dumps(path)  # ASCII, whatever is in the name
        return web.Response(body=data, content_type="application/octet-stream", headers={"X-Name": name})
