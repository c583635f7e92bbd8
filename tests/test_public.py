"""The public names, as ``import frostline`` gives them."""

from pathlib import Path

import pytest

import frostline


def test_no_module_has_the_name_of_a_public_call():
    # Python sets a submodule as an attribute of its package when it is first imported, which would hide the call.
    modules = {path.stem for path in Path(frostline.__file__).parent.iterdir()}
    assert modules & set(frostline.__all__) == set()


@pytest.mark.parametrize("name", ["evaluate", "load_data", "load_model", "train"])
def test_public_calls_are_there_each_time(name):
    assert callable(getattr(frostline, name))
    assert callable(getattr(frostline, name))


def test_all_names_can_be_had_and_no_others():
    assert all(hasattr(frostline, name) for name in frostline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = frostline.nothing
