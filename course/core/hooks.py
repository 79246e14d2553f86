"""Watch or change what chosen modules return, for as long as a block runs.

resnets = find(unet, lambda name, module: name == "up_blocks.1.resnets.1")
with recording(resnets) as features: ...
with rewriting(resnets, lambda h: h[:1].expand_as(h)): ...
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from torch import Tensor, nn


def find(model: nn.Module, where: Callable[[str, nn.Module], bool]) -> dict[str, nn.Module]:
    """The submodules that `where(name, module)` accepts, by name, in the model's order.

    Raises ValueError when it accepts none.
    """
    there = {name: module for name, module in model.named_modules() if name}
    found = {name: module for name, module in there.items() if where(name, module)}
    if not found:
        some = "".join(f"\n  {name} ({type(module).__name__})" for name, module in islice(there.items(), 12))
        kind = type(model).__name__
        raise ValueError(f"`where` accepted none of the {len(there)} modules of this {kind}, such as:{some}")
    return found


Modules = Mapping[str, nn.Module] | Iterable[nn.Module]


@contextmanager
def rewriting(modules: Modules, edit: Callable[[Tensor], Tensor]) -> Iterator[list[str]]:
    """The modules' names; within the block each returns `edit` of its output.

    modules: what `find` returned, or modules alone, whose names are then "0", "1", ...
    Of a module that returns a tuple, the first entry is edited. Blocks nest, the outer edit running first.
    Raises ValueError when there is no module, or when a module or `edit` returns no tensor.
    """

    def rewrite(name: str, output: Tensor) -> Tensor:
        edited = edit(output)
        if not isinstance(edited, Tensor):
            raise ValueError(f"an edit must return a tensor, got {type(edited).__name__} (module {name})")
        return edited

    with _hooked(modules, rewrite) as names:
        yield names


@contextmanager
def recording(modules: Modules) -> Iterator[dict[str, list[Tensor]]]:
    """A dictionary of lists that fill with the modules' outputs, detached, one entry for each call.

    Modules and refusals as for `rewriting`. A later in-place change of an output does not reach its record.
    """
    named = _named(modules)
    outputs: dict[str, list[Tensor]] = {name: [] for name in named}

    def keep(name: str, output: Tensor) -> Tensor:
        outputs[name].append(output.detach().clone())
        return output

    with _hooked(named, keep):
        yield outputs


def _named(modules: Modules) -> dict[str, nn.Module]:
    if isinstance(modules, Mapping):
        return dict(modules)
    return {str(i): module for i, module in enumerate(modules)}


@contextmanager
def _hooked(modules: Modules, visit: Callable[[str, Tensor], Tensor]) -> Iterator[list[str]]:
    named = _named(modules)
    if not named:
        raise ValueError("no module was given: choose at least one, for example with find(model, where)")
    with ExitStack() as undo:
        for name, module in named.items():

            def hook(module: nn.Module, _: Any, output: Any, name: str = name) -> Any:
                if isinstance(output, Tensor):
                    return visit(name, output)
                if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
                    return (visit(name, output[0]), *output[1:])
                raise ValueError(
                    f"{type(module).__name__} {name} returns a {type(output).__name__}, not a tensor or a "
                    "tuple that begins with one: choose a module inside it"
                )

            undo.callback(module.register_forward_hook(hook).remove)
        yield list(named)
