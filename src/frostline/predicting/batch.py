"""Predictions for any number of files: each a row, bad files with their reason, in constant memory."""

from __future__ import annotations

import io
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from frostline.conformal import Promise
from frostline.data.reading import read_ahead
from frostline.decode import DECODER_VERSION, BadImage
from frostline.errors import UserError
from frostline.files import atomic_file, check_place
from frostline.predicting.items import Item
from frostline.predicting.listing import listed
from frostline.predicting.resuming import RESUMABLE, Unfinished
from frostline.predicting.row_formats import PARQUET, Counter, Row, write_parquet, write_text
from frostline.progress import Stage, say, stage
from frostline.serve.answers import NO_ANSWER, best_classes, is_answer, is_sure, set_of
from frostline.serve.predictor import Predictor
from frostline.stored import read_stored

#: A block of images is closed early once the bytes that it holds, read from archives, are more than this.
HEAVY = 1 << 26


def predict_files(
    predictor: Predictor, paths: Iterable[Path | str], top: int, sure_from: float | None = None, promise: Promise | None = None
) -> Iterator[Row]:
    """A row for each file, in order; see ``listing.listed`` for what may be named and ``predict_items`` for the rest.

    Raises:
        UserError: no file is named, and the folders named hold no image.
    """
    return predict_items(predictor, some(listed(map(str, paths))), top, sure_from, promise)


def some(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; a ``UserError`` where there is none."""
    first = next(items, None)
    if first is None:
        raise UserError("There are no images there.", expected="image files, or folders or archives that hold some")
    return chain([first], items)


def predict_items(
    predictor: Predictor, items: Iterable[Item], top: int, sure_from: float | None = None, promise: Promise | None = None
) -> Iterator[Row]:
    """A row for each item, in order; items are read by threads, ahead of the network.

    Answers of a probability below ``sure_from`` are not sure. With a ``promise`` each row has the label set that keeps it.
    """
    waiting: deque[_Block] = deque()
    for probabilities in predictor.stored(_images(predictor, items, waiting)):
        while waiting[0].all_bad:
            yield from waiting.popleft().rows()
        yield from waiting.popleft().rows(probabilities, predictor.classes, top, sure_from, promise)
    for block in waiting:
        yield from block.rows()


@dataclass(frozen=True)
class _Block:
    """The names of some items, and of each that could not be read the reason, else an empty text."""

    names: list[str]
    errors: list[str]

    @property
    def all_bad(self) -> bool:
        return all(self.errors)

    def rows(
        self,
        probabilities: Iterable[NDArray[np.float32]] = (),
        classes: Sequence[str] = (),
        top: int = 0,
        sure_from: float | None = None,
        promise: Promise | None = None,
    ) -> Iterator[Row]:
        found = iter(probabilities)
        for name, error in zip(self.names, self.errors, strict=True):
            if error:
                yield Row(name, error=error)
                continue
            p = next(found)
            if not is_answer(p):
                yield Row(name, error=NO_ANSWER)
                continue
            yield Row(name, best_classes(p, classes, top), "", is_sure(p, sure_from), set_of(p, classes, promise))


def _images(predictor: Predictor, items: Iterable[Item], waiting: deque[_Block]) -> Iterator[NDArray[np.uint8]]:
    """Blocks of images that could be read; ``waiting`` learns what each is before it is handed out."""
    preprocess = predictor.card.preprocess

    def read(item: Item) -> tuple[str, NDArray[np.uint8] | str]:
        try:
            return item.name, read_stored(item.encoded(), preprocess)
        except (BadImage, OSError) as error:
            return item.name, str(error) or type(error).__name__

    for block in read_ahead(_blocks(items, predictor.batch), read):
        waiting.append(_Block([name for name, _ in block], [found if isinstance(found, str) else "" for _, found in block]))
        if images := [found for _, found in block if not isinstance(found, str)]:
            yield np.stack(images)


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """At most ``size`` items at a time, fewer where they are heavy."""
    block: list[Item] = []
    weight = 0
    for item in items:
        block.append(item)
        weight += item.weight
        if len(block) == size or weight > HEAVY:
            yield block
            block, weight = [], 0
    if block:
        yield block


def write_rows(rows: Iterable[Row], form: str, out: TextIO) -> int:
    """Write rows as text in a form of ``row_formats.TEXT`` as they come; returns how many files failed."""
    counter = Counter()
    write_text(counter(rows), form, out)
    return counter.failed


@dataclass(frozen=True)
class Asked:
    """What to predict, and what to say of it.

    Attributes:
        items: gives the items, each time anew.
        top: classes of each image.
        sure_from: as in ``predict_items``.
        form: of ``row_formats.FORMS``.
        promise: of the label sets, as in ``predict_items``.
        counted: the items may be listed twice, the first time to know how many there are.
    """

    items: Callable[[], Iterator[Item]]
    top: int
    sure_from: float | None
    form: str
    promise: Promise | None = None
    counted: bool = True

    @property
    def sets(self) -> bool:
        """Whether rows have label sets."""
        return self.promise is not None

    def rows(self, predictor: Predictor, items: Iterable[Item]) -> Iterator[Row]:
        """The answers."""
        return predict_items(predictor, items, self.top, self.sure_from, self.promise)


def answered(predictor: Predictor, asked: Asked, output: Path | None, resume: bool) -> Counter:
    """Predict into a file, or to standard output where there is none; after Ctrl-C it is said what is kept."""
    try:
        if output is None:
            if isinstance(sys.stdout, io.TextIOWrapper):  # names and classes may have any letter, whatever the terminal writes
                sys.stdout.reconfigure(encoding=None if asked.form == "table" else "utf-8", errors="backslashreplace")
            found = predict_out(predictor, asked, sys.stdout, shown=not sys.stdout.isatty())
            sys.stdout.flush()
        else:
            found = predict_to(predictor, asked, output, resume)
            say(f"{found.rows:,} images, of which {found.failed:,} could not be read: {output}")
    except KeyboardInterrupt:
        if output is None or asked.form not in RESUMABLE:
            say("Interrupted; nothing is kept. An --output in jsonl or csv can be resumed.", "yellow")
        raise
    return found


def predict_to(predictor: Predictor, asked: Asked, output: Path, resume: bool = False) -> Counter:
    """Predict into a file, which appears whole or not at all; what an interruption leaves, ``resume`` continues.

    Raises:
        UserError: nothing to predict; a form that cannot be continued; or see ``resuming.Unfinished``.
    """
    check_place(output)
    if asked.form not in RESUMABLE:
        if resume:
            expected = "jsonl or csv, whose rows are lines of their own"
            raise UserError(f"A file of the form {asked.form} cannot be continued.", expected=expected, hint="leave --resume out")
        return _at_once(predictor, asked, output)
    top = min(asked.top, len(predictor.classes))
    made_with = {
        "model": predictor.card.digest,
        "precision": predictor.precision,
        "top": top,
        "sure_from": asked.sure_from,
        "sets": None if asked.promise is None else asked.promise.coverage,
        "format": asked.form,
        "decoder": DECODER_VERSION,
    }
    items = some(asked.items())
    unfinished = Unfinished(output, asked.form, made_with, resume)
    counter = Counter(unfinished.rows, unfinished.failed)
    _say_resumed(unfinished)
    with unfinished.rows_below() as (out, fresh), _shown(asked, unfinished.rows) as bar:
        rows = asked.rows(predictor, unfinished.missing(items))
        try:
            write_text(_advancing(counter(rows), bar), asked.form, out, fresh, asked.sets)
            if unfinished.unasked:
                said = f"{unfinished.unasked:,} of the answers kept are of images that this command does not name; they stay."
                say(said, "yellow")
        except KeyboardInterrupt:
            say(f"Interrupted. {counter.rows:,} answers are kept: the same command with --resume goes on with the rest.", "yellow")
            raise
    return counter


def _say_resumed(unfinished: Unfinished) -> None:
    if unfinished.mended:
        say(f"The last row of {unfinished.path} was torn; its image is predicted again.", "yellow")
    if unfinished.rows:
        say(f"Going on: {unfinished.rows:,} images are answered already.")


def _at_once(predictor: Predictor, asked: Asked, output: Path) -> Counter:
    counter = Counter()
    items = some(asked.items())
    with atomic_file(output) as out, _shown(asked) as bar:
        rows = _advancing(counter(asked.rows(predictor, items)), bar)
        if asked.form == PARQUET:
            write_parquet(rows, out, asked.sets)
        else:
            text = io.TextIOWrapper(out, encoding="utf-8", newline="")
            write_text(rows, asked.form, text, sets=asked.sets)
            text.detach()  # which flushes it; the file is closed by who opened it
    return counter


def predict_out(predictor: Predictor, asked: Asked, out: TextIO, shown: bool) -> Counter:
    """Predict to a stream of text; ``shown``: with progress, where nothing else is written to the terminal."""
    counter = Counter()
    items = some(asked.items())
    with _shown(asked) if shown else _silent() as bar:
        rows = counter(asked.rows(predictor, items))
        write_text(_advancing(rows, bar), asked.form, out, sets=asked.sets)
    return counter


def _advancing(rows: Iterable[Row], bar: Stage) -> Iterator[Row]:
    for row in rows:
        yield row
        bar.advance()


@contextmanager
def _silent() -> Iterator[Stage]:
    yield Stage(None, None)


@contextmanager
def _shown(asked: Asked, already: int = 0) -> Iterator[Stage]:
    """Progress on a terminal; how many images there are is counted meanwhile, for the time that is left."""
    ended = threading.Event()

    def count(bar: Stage) -> None:
        number = -already
        for _ in asked.items():
            number += 1
            if ended.is_set():
                return
        bar.expect(max(number, 0))

    with stage("predict") as bar:
        if bar.is_shown and asked.counted:
            threading.Thread(target=count, args=(bar,), name="count", daemon=True).start()
        try:
            yield bar
        finally:
            ended.set()
