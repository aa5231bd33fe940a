"""The network, asked by several people at once: whoever waits goes into the same forward pass."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from commands.predict.inputs import Picture
from commands.predict.model import Model, Prediction
from stages import runtime
from stages.report.gradcam import BATCH

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Look(NamedTuple):
    """A heat map that somebody wants."""

    image: NDArray[np.uint8]  # [S, S], as the network sees it
    label: int


class Network:
    """Asks a model in a thread of its own.

    A pass costs the same whatever part of it is filled, and a picture's answer does not depend on its neighbours; so
    pictures of several requests share one.
    """

    def __init__(self, model: Model) -> None:
        """Start with nobody waiting."""
        self.model = model
        # how many threads share an operation is a thread's own setting, and sums are split by it
        self.thread = ThreadPoolExecutor(1, "network", runtime.limit_threads, (model.about.threads,))
        self.pictures: Together[Picture, Prediction] = Together(self.thread, model.about.batch_size, model.ask)
        self.looks: Together[Look, NDArray[np.float32]] = Together(self.thread, BATCH, self._heats)

    async def ask(self, pictures: list[Picture]) -> list[Prediction]:
        """Return what is said of each picture."""
        return await self.pictures.ask(pictures)

    async def heat(self, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """Return how much each place of the network's picture [S, S] speaks for a class, [S, S] in 0..1."""
        return (await self.looks.ask([Look(image, label)]))[0]

    def _heats(self, looks: list[Look]) -> list[NDArray[np.float32]]:
        images, labels = np.stack([each.image for each in looks]), np.array([each.label for each in looks])
        return list(self.model.heat(images, labels))

    def close(self) -> None:
        """Compute nothing more."""
        self.thread.shutdown(wait=False, cancel_futures=True)


class Together(Generic[Item, Answer]):
    """Work on what several people want, as much as fits at a time, in the order of their asking."""

    def __init__(self, thread: ThreadPoolExecutor, most: int, work: Callable[[list[Item]], list[Answer]]) -> None:
        """Start with nobody waiting."""
        self.thread, self.most, self.work = thread, most, work
        self.waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self.running: asyncio.Task[None] | None = None

    async def ask(self, items: list[Item]) -> list[Answer]:
        """Return the answer to each."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Answer]] = [loop.create_future() for _ in items]
        self.waiting.extend(zip(items, answers, strict=True))
        if self.running is None or self.running.done():
            self.running = loop.create_task(self._run())
        return await asyncio.gather(*answers)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            # taken when the thread is free, so that all who came meanwhile are in it
            batch: list[tuple[Item, asyncio.Future[Answer]]] = []
            try:
                said = await loop.run_in_executor(self.thread, self._next, batch)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), found in zip(batch, said, strict=True):
                    if not answer.done():
                        answer.set_result(found)

    def _next(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> list[Answer]:
        """Take those who are next into `batch`, without who has left, and work on them."""
        while self.waiting and len(batch) < self.most:
            item, answer = self.waiting.popleft()
            if not answer.done():
                batch.append((item, answer))
        return self.work([item for item, _ in batch]) if batch else []
