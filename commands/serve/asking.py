"""The network, asked by several people at once: whoever waits goes into the same forward pass."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from commands.predict.inputs import Picture
from commands.predict.model import Model, Prediction
from stages import runtime


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
        self.waiting: deque[tuple[Picture, asyncio.Future[Prediction]]] = deque()
        self.running: asyncio.Task[None] | None = None

    async def ask(self, pictures: list[Picture]) -> list[Prediction]:
        """Return what is said of each picture."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Prediction]] = [loop.create_future() for _ in pictures]
        self.waiting.extend(zip(pictures, answers, strict=True))
        if self.running is None or self.running.done():
            self.running = loop.create_task(self._run())
        return await asyncio.gather(*answers)

    async def heat(self, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """Return how much each place of the network's picture [S, S] speaks for a class, [S, S] in 0..1."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self.thread, self.model.heat, image[None], np.array([label]))
        return np.asarray(found[0])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._batch():
            pictures = [picture for picture, _ in batch]
            try:
                said = await loop.run_in_executor(self.thread, self.model.ask, pictures)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), prediction in zip(batch, said, strict=True):
                    if not answer.done():
                        answer.set_result(prediction)

    def _batch(self) -> list[tuple[Picture, asyncio.Future[Prediction]]]:
        """Return those who are next, without who has left."""
        found: list[tuple[Picture, asyncio.Future[Prediction]]] = []
        while self.waiting and len(found) < self.model.about.batch_size:
            picture, answer = self.waiting.popleft()
            if not answer.done():
                found.append((picture, answer))
        return found

    def close(self) -> None:
        """Compute nothing more."""
        self.thread.shutdown(wait=False, cancel_futures=True)
