"""Extraction by way of the cache: the same features whatever was cached before, and nothing computed twice."""

import tracemalloc

import numpy as np
import pytest
from drawing import drawn, encoded, put

from frostline import features
from frostline.data.imageset import ImageSet
from frostline.data.rows import digest_bytes16, pixel_digests
from frostline.decode import decode_rgb
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.feature_cache import FeatureCache, FeatureOverflowError, from_stored
from frostline.features import compressed, extract
from frostline.preprocess import Preprocess, stored_image

PREPROCESS = Preprocess(size=(6, 6), stored=(6, 6))
WIDTH = 5
N = 50


class Counting:
    """An engine of five linear features that remembers every image it was given."""

    batch = 4

    def __init__(self, scale=1.0):
        self.weights = (np.random.default_rng(0).normal(size=(6 * 6 * 3, WIDTH)) * scale).astype(np.float32)
        self.given = []

    def run(self, blocks):
        waiting = None  # one block behind, as real engines are
        for block in blocks:
            assert 0 < len(block) <= self.batch
            self.given += [image.tobytes() for image in block]
            if waiting is not None:
                yield (waiting,)
            waiting = features_of(block, self.weights)
        if waiting is not None:
            yield (waiting,)


def features_of(images, weights):
    return np.stack([image.reshape(-1).astype(np.float32) @ weights for image in images]) / 255


def image_set(pixels):
    n = len(pixels)
    ids = np.array([f"train/{i}" for i in range(n)])
    return ImageSet("train", ("a", "b"), np.arange(n) % 2, ids, pixel_digests(pixels), pixels=pixels)


@pytest.fixture
def images():
    return image_set(drawn_images(N, 6, 6))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 10)


def caches(views=2, dtype="float16", **key):
    return [FeatureCache({"view": view, **key}, WIDTH, dtype) for view in ("image", "mirror")[:views]]


def table(images, rows, engine, stores):
    """(rows, features) as extraction gave them."""
    blocks = list(extract(images, np.asarray(rows), PREPROCESS, engine, stores))
    if not blocks:
        return [], []
    return np.concatenate([block.rows for block in blocks]), np.concatenate([block.features for block in blocks])


def expected(images, rows, views=2):
    weights = Counting().weights
    both = [features_of(images.pixels[rows], weights), features_of(images.pixels[rows][:, :, ::-1], weights)]
    return np.stack(both[:views], 1).astype(np.float16)


@pytest.mark.parametrize("views", [1, 2])
def test_features_come_in_the_order_asked_for(images, views):
    rows = np.random.default_rng(1).permutation(N)[:37]
    seen, found = table(images, rows, Counting(), caches(views))
    assert seen.tolist() == rows.tolist()
    assert found.shape == (37, views, WIDTH)
    np.testing.assert_array_equal(found, expected(images, rows, views))


def test_blocks_have_the_said_size(images):
    blocks = list(extract(images, np.arange(37), PREPROCESS, Counting(), caches()))
    assert [len(block.rows) for block in blocks] == [10, 10, 10, 7]


def test_nothing_asked_for_is_nothing(images):
    assert table(images, np.arange(0), Counting(), caches()) == ([], [])


def test_what_is_cached_is_not_computed(images):
    table(images, range(N), Counting(), caches())
    engine = Counting()
    rows = np.arange(N)[::-1]
    seen, found = table(images, rows, engine, caches())
    assert engine.given == []
    assert seen.tolist() == rows.tolist()
    np.testing.assert_array_equal(found, expected(images, rows))


def test_what_is_lacking_is_computed_once_and_kept(images):
    table(images, range(0, N, 3), Counting(), caches())
    engine = Counting()
    _, found = table(images, range(N), engine, caches())
    lacking = [i for i in range(N) if i % 3]
    mirrored = [images.pixels[i][:, ::-1].tobytes() for i in lacking]
    assert sorted(engine.given) == sorted([images.pixels[i].tobytes() for i in lacking] + mirrored)
    np.testing.assert_array_equal(found, expected(images, range(N)))
    assert all(cache.has(images.digests).all() for cache in caches())


@pytest.mark.parametrize("known", [range(0, N, 2), range(13, 29), [0], [N - 1], range(N)])
def test_rows_of_one_view_only_are_completed(images, known):
    """View 0 cached for some rows: their mirror images are computed, and the result is that of a cold run, bit for bit."""
    table(images, known, Counting(), caches(1))
    engine = Counting()
    _, found = table(images, range(N), engine, caches(2))
    np.testing.assert_array_equal(found, expected(images, range(N)))
    assert len(caches(1)[0]) == len(caches(2)[1]) == N
    assert set(engine.given) >= {image[:, ::-1].tobytes() for image in images.pixels}
    _, again = table(images, range(N), Counting(), caches(2))
    np.testing.assert_array_equal(again, found)


def test_the_mirror_alone_is_completed(images):
    table(images, range(10, 20), Counting(), [caches(2)[1]])  # written under the mirror's key: the images themselves
    cache = caches(2)[1]
    _, found = table(images, range(N), Counting(), caches(2))
    np.testing.assert_array_equal(found[:, 0], expected(images, range(N))[:, 0])
    np.testing.assert_array_equal(found[10:20, 1], cache.read(images.digests[10:20]))
    np.testing.assert_array_equal(found[20:, 1], expected(images, range(20, N))[:, 1])


def test_an_interrupted_extraction_keeps_the_blocks_it_handed_out(images):
    engine, stores = Counting(), caches()
    going = extract(images, np.arange(N), PREPROCESS, engine, stores)
    first = [next(going), next(going)]
    going.close()
    assert [block.rows.tolist() for block in first] == [list(range(10)), list(range(10, 20))]
    again = Counting()
    _, found = table(images, range(N), again, caches())
    np.testing.assert_array_equal(found, expected(images, range(N)))
    assert not set(again.given) & {image.tobytes() for image in images.pixels[:20]}


def test_little_is_computed_ahead_of_what_is_asked_for(images):
    engine = Counting()
    going = extract(images, np.arange(N), PREPROCESS, engine, caches(1))
    next(going)
    assert len(engine.given) <= 10 + 2 * engine.batch
    going.close()


def test_rows_are_those_of_the_content_not_of_the_place(images):
    table(images, range(N), Counting(), caches())
    other = image_set(np.ascontiguousarray(images.pixels[::-1][:30]))
    engine = Counting()
    _, found = table(other, range(30), engine, caches())
    assert engine.given == []
    np.testing.assert_array_equal(found, expected(other, range(30)))


def test_copies_of_an_image_have_its_features():
    images = image_set(drawn_images(4, 6, 6)[[0, 1, 0, 0, 2, 1, 3] * 5])
    _, found = table(images, range(35), Counting(), caches())
    np.testing.assert_array_equal(found, expected(images, range(35)))
    assert len(caches()[0]) == 4


def test_another_key_computes_again(images):
    table(images, range(20), Counting(), caches(precision="bf16"))
    engine = Counting()
    table(images, range(20), engine, caches(precision="f32"))
    assert len(engine.given) == 40


def test_photos(tmp_path):
    files = tuple(put(tmp_path / f"{i}.png", encoded(drawn(i, 20 + i, 30), "PNG")) for i in range(11))
    digests = np.array([digest_bytes16(path.read_bytes()) for path in files], "S16")
    images = ImageSet("train", ("a", "b"), np.zeros(11, np.int64), np.array([path.name for path in files]), digests, files=files)
    _, found = table(images, range(11), Counting(), caches())
    pixels = np.stack([stored_image(decode_rgb(path), PREPROCESS) for path in files])
    np.testing.assert_array_equal(found, expected(image_set(pixels), range(11)))


def test_a_value_too_large_for_float16_is_said_and_not_kept(images):
    with pytest.raises(FeatureOverflowError):
        table(images, range(N), Counting(scale=1e6), caches())
    assert not caches()[0].has(images.digests).any()
    _, found = table(images, range(N), Counting(scale=1e6), caches(dtype="bfloat16"))
    exact = features_of(images.pixels, Counting(scale=1e6).weights)
    np.testing.assert_allclose(from_stored(found, "bfloat16")[:, 0], exact, rtol=2**-8)


def test_features_that_are_not_finite_are_refused_by_name(images):
    class Broken(Counting):
        def run(self, blocks):
            for number, (values,) in enumerate(super().run(blocks)):
                values[-1, 2] = np.nan if number == 1 else 0
                yield (values,)

    with pytest.raises(UserError, match="not finite for 'train/7'") as caught:
        table(images, range(N), Broken(), caches(1))
    assert "--precision f32" in str(caught.value)
    assert not caches(1)[0].has(images.digests).any()


def test_memory_does_not_grow_with_the_images():
    def peak(n):
        images = image_set(np.random.default_rng(n).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8))
        stores = caches(1, key=n)
        engine = Counting()
        engine.given = _Forgetful()
        tracemalloc.start()
        for _ in extract(images, np.arange(n), PREPROCESS, engine, stores):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)
    few, many = peak(200), peak(1200)
    # an index entry a row is all that stays: a digest and where its row is
    assert many - few < 1000 * 400


class _Forgetful(list):
    def __iadd__(self, _other):
        return self


@pytest.mark.parametrize("power", [1.0, 0.75, 0.5])
def test_compressed_features_by_hand(power):
    stored = np.array([[[16, -16], [0, 1]], [[81, -0.0625], [256, 0]]], np.float16)
    wanted = {
        1.0: stored,
        0.75: [[[8, -8], [0, 1]], [[27, -0.125], [64, 0]]],
        0.5: [[[4, -4], [0, 1]], [[9, -0.25], [16, 0]]],
    }
    found = compressed(stored, "float16", power)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[power], rtol=1e-6)


class Prompt(Counting):
    """An engine that answers each block before it takes the next."""

    def run(self, blocks):
        for block in blocks:
            self.given += [image.tobytes() for image in block]
            yield (features_of(block, self.weights),)


@pytest.mark.parametrize("engine", [Counting, Prompt])
@pytest.mark.parametrize("room", [1, 100, 2**26])
def test_blocks_have_as_many_bytes_and_engines_may_answer_at_once(images, monkeypatch, engine, room):
    monkeypatch.setattr(features, "BLOCK_BYTES", room)
    made = engine()
    caches = [FeatureCache({"view": str(view)}, WIDTH, "float32") for view in range(2)]
    blocks = list(extract(images, np.arange(N), PREPROCESS, made, caches))
    assert [len(block.rows) for block in blocks] == ([10] * 5 if room > 100 else [4] * 12 + [2])
    assert np.concatenate([block.rows for block in blocks]).tolist() == list(range(N))
    found = np.concatenate([block.features[:, 0] for block in blocks])
    np.testing.assert_array_equal(found, features_of(images.pixels, made.weights))
    again = list(extract(images, np.arange(N), PREPROCESS, made, caches))
    assert len(made.given) == 2 * N
    np.testing.assert_array_equal(np.concatenate([block.features for block in again])[:, 0], found)
