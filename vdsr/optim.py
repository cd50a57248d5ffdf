"""How gradients are clipped, and what makes an update of them."""

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from .model import convolutions


def clip_(parameters, kind, theta, learning_rate):
    """Clip gradients in place; return the share of them that the bound changed.

    Parameters
    ----------
    parameters : list of torch.nn.Parameter
        With gradients.
    kind : {"adjustable", "value", "norm", "none"}
        ``"adjustable"``: each value to ±θ/γ (Kim et al. 2016, §3.2). ``"value"``: each value to
        ±θ. ``"norm"``: all gradients together to a Euclidean norm of at most θ.
    theta : float
    learning_rate : float or Tensor, ()
        γ, the one in force; on the device, if it is to be part of no CUDA graph.

    Returns
    -------
    Tensor of float32, ()
        From 0 to 1. A norm above its bound changes all values.
    """
    if kind == "none":
        return torch.zeros((), device=parameters[0].device)
    if kind == "norm":
        return (clip_grad_norm_(parameters, theta) > theta).float()
    bound = theta / learning_rate if kind == "adjustable" else theta
    share = (torch.cat([p.grad.flatten() for p in parameters]).abs() > bound).float().mean()
    if isinstance(bound, torch.Tensor):  # torch's own function would wait for its value
        for p in parameters:
            p.grad.clamp_(-bound, bound)
    else:
        clip_grad_value_(parameters, bound)
    return share


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan et al. 2024), for kernels of one shape.

    A kernel (out, in, h, w) is taken as a matrix of out × (in·h·w). Nesterov's momentum of its
    gradient is replaced by the nearest matrix with equal singular values, found to some tenths
    by five Newton–Schulz steps, and multiplied by √max(1, rows / columns).

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        All of one shape: they are updated together.
    lr : float or Tensor
    momentum : float
    weight_decay : float
        Weights shrink by this times the learning rate, apart from the gradient.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self):
        """Update the weights from their gradients."""
        for group in self.param_groups:
            kernels, momentum = group["params"], group["momentum"]
            updates = []
            for p in kernels:
                buffer = self.state[p]["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - momentum)
                updates.append(p.grad.lerp(buffer, momentum).flatten(1))
            updates = orthogonal(torch.stack(updates))
            updates *= max(1, updates.shape[1] / updates.shape[2]) ** 0.5
            for p, update in zip(kernels, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * update.view(p.shape))


def orthogonal(matrices):
    """Return matrices (N, R, C) with their singular values brought near 1.

    Five steps of the quintic Newton–Schulz iteration with the coefficients of Jordan et al. 2024,
    which leave singular values between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def make_optimizers(config, model):
    """Return the optimisers of a run, their buffers there from the start.

    A resumed run could otherwise differ from one never stopped. Each group of parameters has
    its learning rate at the start as ``"base"``, for `set_rates`.

    Parameters
    ----------
    config : vdsr.TrainConfig
    model : torch.nn.Module
        On the device it is trained on.

    Returns
    -------
    list of torch.optim.Optimizer
        Muon's first, with the hidden kernels, and Adam's with the rest; otherwise a single one.
    """
    first, *hidden, last = convolutions(model)
    device, decay = first.weight.device, config.weight_decay
    # On a GPU a rate that moves at each step lies on the device, to be part of no graph.
    on_device = device.type == "cuda" and config.schedule == "cosine"

    def group(parameters, base):
        return {"params": parameters, "base": base,
                "lr": torch.tensor(base, device=device) if on_device else base}  # fmt: skip

    if config.optimizer == "muon":
        kernels = [conv.weight for conv in hidden]
        biases = [conv.bias for conv in hidden if conv.bias is not None]
        base, rest = config.adam_rate, [*first.parameters(), *biases]
    else:
        base = config.learning_rate
        rest = [p for conv in (first, *hidden) for p in conv.parameters()]
    groups = [group(rest, base), group([*last.parameters()], base * config.last_rate)]
    if config.optimizer == "sgd":
        # The fused one alone takes a rate that lies on the device without waiting for its value.
        sgd = torch.optim.SGD(
            groups, momentum=config.momentum, weight_decay=decay, fused=on_device or None
        )
        for each in (p for g in groups for p in g["params"]):
            sgd.state[each]["momentum_buffer"] = torch.zeros_like(each)
        return [sgd]
    beta = 0.9 if config.optimizer == "muon" else config.momentum
    adam = torch.optim.Adam(
        groups, betas=(beta, 0.999), weight_decay=decay, capturable=device.type == "cuda"
    )
    for each in (p for g in groups for p in g["params"]):
        adam.state[each] |= {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(each),
            "exp_avg_sq": torch.zeros_like(each),
        }
    if config.optimizer == "adam":
        return [adam]
    muon = group(kernels, config.learning_rate)
    return [Muon([muon], muon["lr"], config.momentum, decay), adam]


def set_rates(optimizers, factor):
    """Multiply each group's learning rate at the start by a factor; on a device, in place."""
    for group in (g for optimizer in optimizers for g in optimizer.param_groups):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(group["base"] * factor)
        else:
            group["lr"] = group["base"] * factor
