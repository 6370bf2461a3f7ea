"""Muon beside AdamW in one optimiser: weights that mix channels step along their orthogonalised momentum."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

STEPS = 5
"""Newton–Schulz iterations: after five, singular values lie within 0.68 and 1.21, but for those that were tiny, which
stay smaller: of random square matrices one in a hundred, down to nearly 0."""


class Muon(torch.optim.Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon) for the groups that say `"orthogonal": True`, AdamW for others.

    A convolution that mixes channels is a matrix [outputs, inputs·height·width].  AdamW scales a step's numbers one by
    one, and a few directions take most of it.  Muon sets the momentum's singular values to one, so that all directions
    are learned at the same pace.

    PyTorch's own Muon takes parameters of two dimensions only, so no convolutions, and orthogonalises them one by one.
    Here as there, `torch._foreach_…` is one call for many tensors; there are no public names for it.

    Args:
        groups: parameters and settings, as for other optimisers.
        lr: the rate: the root mean square of a step's numbers, times `scale`.
        scale: how much larger the steps of matrices are.
        betas: decay of the momentum, and of AdamW's squares; in our trainings the first moves between .95 and .85, see
            `fashion.optim.one_cycle`.
        eps: of AdamW.
        weight_decay: share of the weights that goes with each step, times `lr`.
        bf16: orthogonalise in bfloat16, whose rounding is small beside what five iterations leave: five times as
            fast for a ResNet-18's matrices where the processor has instructions for it.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        scale: float = 2.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bf16: bool = False,
    ):
        defaults = {"lr": lr, "scale": scale, "betas": betas, "eps": eps, "weight_decay": weight_decay, "bf16": bf16}
        super().__init__(groups, defaults | {"orthogonal": False})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; counts of steps are moved to their parameters' devices.

        Torch leaves them on the CPU, where they were read, unless a group says that it is fused.
        """
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, after `closure` has computed the gradients; returns what it returned."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                self._orthogonal(parameters, group)
            elif parameters:
                self._adamw(parameters, group)
        return loss

    def _orthogonal(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike = defaultdict(list)  # by shape, since a stack of matrices takes one call
        for parameter in parameters:
            alike[parameter.shape].append(parameter)
        lr, decay = group["lr"], group["betas"][0]
        for shape, members in alike.items():
            momenta = torch.stack([momentum.flatten(1) for momentum in self._momenta(members, decay)])
            steps = newton_schulz(momenta.bfloat16() if self.defaults["bf16"] else momenta).to(momenta.dtype)
            # An orthogonal matrix has numbers of 1/√(longer side).
            steps *= lr * group["scale"] * max(steps.shape[1:]) ** 0.5
            weights: list[Tensor] = [*members]
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            torch._foreach_sub_(weights, [step.reshape(shape) for step in steps])

    def _momenta(self, parameters: list[nn.Parameter], decay: float) -> Sequence[Tensor]:
        """Nesterov momentum: the gradient is added to the momentum, and once more to what the step follows."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(momenta, decay)
        torch._foreach_add_(momenta, gradients)
        ahead: Sequence[Tensor] = torch._foreach_add(gradients, momenta, alpha=decay)
        return ahead

    def _adamw(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            [*parameters],
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def newton_schulz(matrices: Tensor) -> Tensor:
    """[B,M,N] → [B,M,N] of the same singular vectors, with singular values near 1.

    Newton–Schulz iterations of a quintic whose slope at 0 is steep: it needs products of matrices only.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)  # so that no singular value is above 1
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
