"""Hooks that change or record what modules return, and nothing once the block has ended."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from course.core.hooks import find, recording, rewriting


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return 2 * x, "the rest"


class Dictionary(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": x}


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Identity(), nn.ReLU(), nn.Sequential(nn.Identity()))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


X = torch.tensor([[1.0, -2.0], [3.0, 4.0]])


def test_find_names_what_it_found(model: nn.Sequential) -> None:
    found = find(model, lambda name, module: isinstance(module, nn.Identity))
    assert found == {"0": model[0], "2.0": model[2][0]}
    assert list(find(model, lambda name, module: name.startswith("2"))) == ["2", "2.0"]


def test_find_refuses_to_find_nothing(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"none of the 4 modules of this Sequential") as caught:
        find(model, lambda name, module: isinstance(module, nn.Conv2d))
    assert "2.0 (Identity)" in str(caught.value)


def test_rewriting_edits_each_chosen_module(model: nn.Sequential) -> None:
    with rewriting([model[0], model[2][0]], lambda x: x + 1) as names:
        assert names == ["0", "1"]
        assert_close(model(X), (X + 1).relu() + 1)
    assert torch.equal(model(X), X.relu())
    assert hooks(model) == 0


def test_rewriting_takes_what_find_returns(model: nn.Sequential) -> None:
    with rewriting(find(model, lambda name, module: name == "2.0"), lambda x: x[:1].expand_as(x)) as names:
        assert names == ["2.0"]
        assert_close(model(X), X.relu()[[0, 0]])


def test_blocks_nest_from_the_outside_in(model: nn.Sequential) -> None:
    with rewriting([model[0]], lambda x: x + 1), recording({"r": model[0]}) as between:
        with rewriting([model[0]], lambda x: x * 10), recording({"r": model[0]}) as last:
            model(X)
        model(X)
    assert_close(last["r"][0], (X + 1) * 10)
    assert_close(between["r"][1], X + 1)
    assert len(last["r"]) == 1 and len(between["r"]) == 2


def test_of_a_tuple_the_first_entry_counts() -> None:
    pair = Pair()
    with rewriting([pair], lambda x: -x), recording([pair]) as outputs:
        assert_close(pair(X)[0], -2 * X)
        assert pair(X)[1] == "the rest"
    assert_close(outputs["0"], [-2 * X, -2 * X])
    assert_close(pair(X)[0], 2 * X)


def test_records_are_detached_and_unmoved_by_later_changes(model: nn.Sequential) -> None:
    x = X.clone().requires_grad_()
    with recording(find(model, lambda name, module: name == "0")) as outputs:
        y = model[0](x * 1)
    y.data.mul_(0)
    assert not outputs["0"][0].requires_grad
    assert_close(outputs["0"][0], X)


@pytest.mark.parametrize("block", [recording, lambda modules: rewriting(modules, lambda x: x)])
def test_no_module_and_no_tensor_are_refused(block) -> None:
    for nothing in ([], {}, iter(())):
        with pytest.raises(ValueError, match="no module was given"), block(nothing):
            pass
    module = Dictionary()
    with pytest.raises(ValueError, match="Dictionary a returns a dict"), block({"a": module}):
        module(X)
    assert hooks(module) == 0


def test_an_edit_that_returns_nothing_is_refused_and_the_hook_goes(model: nn.Sequential) -> None:
    with (
        pytest.raises(ValueError, match="must return a tensor, got NoneType"),
        rewriting([model[0]], lambda x: None),
    ):
        model(X)
    assert hooks(model) == 0
    assert torch.equal(model(X), X.relu())


def test_hooks_go_when_installing_one_fails(model: nn.Sequential) -> None:
    with pytest.raises(AttributeError), rewriting([model[0], "not a module"], lambda x: x):
        pass
    assert hooks(model) == 0
