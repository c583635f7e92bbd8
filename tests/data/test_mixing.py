import pytest
import torch

from frostline.config import Settings
from frostline.data.mixing import cutmix, mix, mixup
from frostline.errors import UserError


def rows(B=4, shape=(2, 6, 6)):
    return torch.arange(B, dtype=torch.float32).view(-1, *[1] * len(shape)).expand(B, *shape).clone(), torch.arange(B)


def test_nothing_is_mixed_unless_asked():
    x, y = rows()
    mixed, shares = mix(x, y, Settings())
    assert mixed is x
    assert shares == [(y, 1.0)]


def test_mixup_by_hand():
    x, _ = rows(2, (3,))
    assert mixup(x, torch.tensor([1, 0]), 0.75)[:, 0].tolist() == [0.25, 0.75]


@pytest.mark.parametrize("shape", [(5,), (7, 3), (2, 6, 6)])
def test_mixup_takes_rows_of_any_shape_and_its_shares_are_theirs(shape):
    x, y = rows(4, shape)
    torch.manual_seed(0)
    mixed, [(own, share), (other, rest)] = mix(x, y, Settings(mixup=1.0))
    assert share + rest == pytest.approx(1)
    wanted = share * own + rest * other
    torch.testing.assert_close(mixed.flatten(1)[:, 0], wanted.float())


def test_cutmix_shares_are_the_areas():
    x, y = rows(4, (2, 6, 6))
    torch.manual_seed(1)
    for _ in range(20):
        mixed, [(own, share), (other, rest)] = mix(x, y, Settings(cutmix=1.0))
        assert share + rest == pytest.approx(1)
        changed = [other[i] != own[i] for i in range(4)]
        for i in range(4):
            kept = (mixed[i] == own[i]).float().mean()
            assert float(kept) == pytest.approx(share if changed[i] else 1.0)
    assert torch.equal(x, rows()[0])


def test_a_box_beyond_the_border_is_cut_off():
    torch.manual_seed(0)
    x, _ = rows(2, (1, 4, 4))
    mixed, share = cutmix(x, torch.tensor([1, 0]), 0.0)
    assert share == pytest.approx(float((mixed[0] == 0).float().mean()))


def test_with_both_each_is_drawn():
    x, y = rows(8, (1, 8, 8))
    torch.manual_seed(0)
    found = {bool((mix(x, y, Settings(mixup=1.0, cutmix=1.0))[0] % 1 != 0).any()) for _ in range(30)}
    assert found == {True, False}


def test_cutmix_needs_maps_and_says_so():
    x, y = rows(4, (5,))
    with pytest.raises(UserError, match="cutmix mixes maps"):
        mix(x, y, Settings(cutmix=1.0))


def test_a_batch_of_one_row_has_no_partner():
    x, y = rows(1)
    assert mix(x, y, Settings(mixup=1.0))[0] is x
