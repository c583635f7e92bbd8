"""Images of many requests in the predictor's batches: right answers to each, bounded, dropped when nobody waits."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import SIDE, Paced, toy
from toymodel import probabilities

from frostline.drawn import drawn_images
from frostline.serve.batching import MicroBatcher
from frostline.serve.refusals import Overloaded, Refused


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


def images(n, seed=0):
    return drawn_images(n, SIDE, SIDE, seed)


def test_every_request_gets_its_own_answer(predictor):
    batcher, sizes = MicroBatcher(predictor, computed=lambda n, seconds: sizes.append(n)), []
    requests = [images(n, seed) for seed, n in enumerate([1, 3, 9, 1, 2, 30, 1, 4])]

    async def all_of_them():
        return await asyncio.gather(*map(batcher.submit, requests))

    for request, found in zip(requests, asyncio.run(all_of_them()), strict=True):
        np.testing.assert_allclose(found, probabilities(request), atol=1e-5)
    batcher.close()
    assert sum(sizes) == 51
    assert max(sizes) == predictor.batch
    assert (batcher.claimed, batcher.waiting, batcher.computing) == (0, 0, 0)


def test_what_a_thread_reads_joins_the_queue_by_itself(predictor):
    batcher, seen = MicroBatcher(predictor), images(9)

    async def all_of_them(pool):
        return await asyncio.gather(*(batcher.read_and_submit(pool, lambda image=image: image) for image in seen))

    with ThreadPoolExecutor(2) as pool:
        found = asyncio.run(all_of_them(pool))
    np.testing.assert_allclose(np.concatenate(found), probabilities(seen), atol=1e-5)
    batcher.close()
    assert (batcher.waiting, batcher.computing) == (0, 0)


def test_what_cannot_be_read_is_told_and_not_computed(predictor):
    batcher, refused = MicroBatcher(predictor), Refused(400, "It is broken.")

    def fails():
        raise ZeroDivisionError

    with ThreadPoolExecutor(1) as pool:
        assert asyncio.run(batcher.read_and_submit(pool, lambda: refused)) is refused
        with pytest.raises(ZeroDivisionError):
            asyncio.run(batcher.read_and_submit(pool, fails))
        batcher.close()
        with pytest.raises(Overloaded):
            asyncio.run(batcher.read_and_submit(pool, lambda: images(1)[0]))
    assert batcher._thread is None


def test_nobody_reads_for_whoever_has_gone(predictor):
    batcher, read, gate = MicroBatcher(predictor), [], threading.Event()

    async def gone_early(pool):
        first = asyncio.ensure_future(batcher.read_and_submit(pool, lambda: (gate.wait() and read.append(1)) or images(1)[0]))
        second = asyncio.ensure_future(batcher.read_and_submit(pool, lambda: read.append(2)))
        await asyncio.sleep(0.01)
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])
        gate.set()

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(gone_early(pool))
    assert read == [1]
    batcher.close()
    assert (batcher.waiting, batcher.computing) == (0, 0)


def test_no_images_need_no_thread(predictor):
    batcher = MicroBatcher(predictor)
    assert asyncio.run(batcher.submit(images(1)[:0])).shape == (0, 3)
    assert batcher._thread is None
    batcher.close()


def test_requests_that_come_together_are_computed_together(predictor):
    paced = Paced(predictor)
    batcher = MicroBatcher(paced)
    paced.gate.clear()

    async def eight():
        first = asyncio.ensure_future(batcher.submit(images(1)))
        while not paced.blocks:
            await asyncio.sleep(0.001)
        rest = [asyncio.ensure_future(batcher.submit(images(1, seed))) for seed in range(7)]
        while batcher.waiting < 7:
            await asyncio.sleep(0.001)
        paced.gate.set()
        await asyncio.gather(first, *rest)

    asyncio.run(eight())
    batcher.close()
    assert paced.blocks == [1, 4, 3]


def test_a_batch_waits_for_images_on_their_way(predictor):
    """Two are claimed, and one comes at once: the batch has both although the second takes a while."""
    paced = Paced(predictor)
    batcher = MicroBatcher(paced, wait_s=20)

    async def two():
        with batcher.claim(2) as claim:
            first = asyncio.ensure_future(batcher.submit(images(1), claim))
            await asyncio.sleep(0.05)
            assert paced.blocks == []
            await asyncio.gather(first, batcher.submit(images(1), claim))

    asyncio.run(two())
    batcher.close()
    assert paced.blocks == [2]


def test_it_waits_no_longer_than_it_is_told(predictor):
    paced = Paced(predictor)
    batcher = MicroBatcher(paced, wait_s=0.001)

    async def one_of_two():
        with batcher.claim(2) as claim:
            await batcher.submit(images(1), claim)

    asyncio.run(one_of_two())
    batcher.close()
    assert paced.blocks == [1]


def test_the_queue_is_bounded(predictor):
    paced = Paced(predictor)
    batcher = MicroBatcher(paced, queue_size=10)
    paced.gate.clear()

    async def eleven():
        waiting = asyncio.ensure_future(batcher.submit(images(10)))
        while not paced.blocks:
            await asyncio.sleep(0.001)
        assert batcher.full
        with pytest.raises(Overloaded, match="busy"):
            await batcher.submit(images(1))
        paced.gate.set()
        found = await waiting
        assert not batcher.full
        return found

    np.testing.assert_allclose(asyncio.run(eleven()), probabilities(images(10)), atol=1e-5)
    batcher.close()


def test_a_claim_that_cannot_grow_keeps_what_it_has(predictor):
    batcher = MicroBatcher(predictor, queue_size=4)
    with batcher.claim(3) as claim:
        with pytest.raises(Overloaded):
            claim.grow(2)
        assert batcher.claimed == 3
    assert batcher.claimed == 0


def test_what_nobody_waits_for_is_not_computed(predictor):
    paced = Paced(predictor)
    batcher = MicroBatcher(paced)
    paced.gate.clear()

    async def cancelled():
        first = asyncio.ensure_future(batcher.submit(images(1)))
        while not paced.blocks:
            await asyncio.sleep(0.001)
        second, third = (asyncio.ensure_future(batcher.submit(images(n))) for n in (20, 2))
        while batcher.waiting < 22:
            await asyncio.sleep(0.001)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (batcher.waiting, batcher.claimed) == (2, 3)
        paced.gate.set()
        await asyncio.gather(first, third)

    asyncio.run(cancelled())
    batcher.close()
    assert paced.blocks == [1, 2]
    assert (batcher.claimed, batcher.waiting, batcher.computing) == (0, 0, 0)


def test_a_failure_is_told_to_those_it_concerns_and_the_rest_goes_on(predictor):
    class Failing(Paced):
        def stored(self, blocks):
            for block in blocks:
                if block.max() == 0:
                    raise RuntimeError("the network failed")
                yield from predictor.stored([block])

    batcher = MicroBatcher(Failing(predictor))

    async def both():
        with pytest.raises(RuntimeError, match="the network failed"):
            await batcher.submit(np.zeros((9, SIDE, SIDE, 3), np.uint8))
        return await batcher.submit(images(5))

    np.testing.assert_allclose(asyncio.run(both()), probabilities(images(5)), atol=1e-5)
    batcher.close()
    assert (batcher.claimed, batcher.waiting, batcher.computing) == (0, 0, 0)


def test_closing_computes_what_is_queued_and_refuses_the_rest(predictor):
    paced = Paced(predictor)
    batcher = MicroBatcher(paced)
    paced.gate.clear()

    async def queued():
        waiting = [asyncio.ensure_future(batcher.submit(images(3, seed))) for seed in range(5)]
        while batcher.waiting + batcher.computing < 15:
            await asyncio.sleep(0.001)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        while not batcher._closed:
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded):
            await batcher.submit(images(1))
        paced.gate.set()
        await closing
        return await asyncio.gather(*waiting)

    for seed, found in enumerate(asyncio.run(queued())):
        np.testing.assert_allclose(found, probabilities(images(3, seed)), atol=1e-5)


def test_many_loops_at_once(predictor):
    """Threads, each with a loop of its own, share one batcher."""
    batcher, wrong = MicroBatcher(predictor, queue_size=10_000), []

    def ask(seed):
        async def some():
            for turn in range(20):
                request = images(1 + turn % 3, seed * 100 + turn)
                found = await batcher.submit(request)
                if np.abs(found - probabilities(request)).max() > 1e-5:
                    wrong.append((seed, turn))

        asyncio.run(some())

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert wrong == []
