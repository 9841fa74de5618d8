"""How large gradients, weights and updates are: a number for each group of the optimiser's parameters.

No number comes to the host here, and a group's numbers are those of all its tensors seen as one vector.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, _foreach_mul, _foreach_norm, _foreach_sub_, nn  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

Groups = dict[str, list[Tensor]]
"""Parameters under the names of their groups."""

Norm = Float[Tensor, ""]


def groups_of(optimizer: Optimizer) -> Groups:
    """The optimiser's parameters; every group must have a name."""
    return {group["name"]: group["params"] for group in optimizer.param_groups}


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[Tensor], groups: Groups, clip_norm: float
) -> tuple[Norm, dict[str, Norm]]:
    """Scale all gradients to a norm of at most ``clip_norm``; 0 does not clip.

    Returns:
        The norm before clipping, of all and of each group. Every gradient is gone through once for both;
        what is done is, bit for bit, ``torch.nn.utils.clip_grad_norm_``.
    """
    parameters = list(parameters)
    gradients = {id(one): one.grad for one in parameters if one.grad is not None}
    norms = dict(zip(gradients, _foreach_norm(list(gradients.values())), strict=True))
    total = _length(norms.values())
    clip_grads_with_norm_(parameters, clip_norm or float("inf"), total)
    of_groups = {
        name: [norms[id(parameter)] for parameter in group if id(parameter) in norms]
        for name, group in groups.items()
    }
    return total, {
        name: _length(found) if found else total.new_zeros(()) for name, found in of_groups.items()
    }


@torch.no_grad()
def copy_statistics(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The statistics that batch normalisation moves in a forward pass, each with what it is now."""
    moving = [module for module in model.modules() if isinstance(module, _NormBase) and module.training]
    return [(buffer, buffer.clone()) for module in moving for buffer in module.buffers()]


@torch.no_grad()
def restore_statistics(statistics: list[tuple[Tensor, Tensor]], taken: Norm) -> None:
    """Put back what the statistics were before a step that is left out, of which ``taken`` is 0 and not 1."""
    for buffer, before in statistics:
        buffer.copy_(torch.where(taken > 0, buffer, before))


@torch.no_grad()
def copy_weights(groups: Groups) -> dict[str, list[Tensor]]:
    """The weights as they are now."""
    # one kernel for all tensors of a group, where cloning has one for each
    return {name: list(_foreach_mul(group, 1)) for name, group in groups.items()}


@torch.no_grad()
def update_ratios(groups: Groups, before: dict[str, list[Tensor]]) -> dict[str, Norm]:
    """Of each group, the norm of its change since ``before`` over its norm then; ``before`` is used up."""
    ratios = {}
    for name, group in groups.items():
        length = get_total_norm(before[name])
        _foreach_sub_(before[name], group)
        ratios[name] = get_total_norm(before[name]) / length
    return ratios


def _length(norms: Iterable[Tensor]) -> Norm:
    """The norm of a vector that is put together from parts with these norms."""
    return torch.linalg.vector_norm(torch.stack(list(norms)))
