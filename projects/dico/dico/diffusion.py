"""Gaussian diffusion with a learnt variance, as DiCo is trained and sampled.

After Improved DDPM (arXiv 2102.09672): the network says the noise, and where between two bounds the
logarithm of the variance lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Denoiser = Callable[[Tensor, Tensor], Tensor]


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 2e-2) -> Tensor:
    """(S,) float64 share of the variance that each step replaces by noise."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def respaced(betas: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A process of fewer steps that passes through some of the states of another.

    Args:
        betas: (S,) of the long process.
        count: Steps of the short one, 2 to S.

    Returns:
        Its betas (count,), and the step of the long process that each of its states is.

    Raises:
        ValueError: `count` is not possible.
    """
    if not 2 <= count <= len(betas):
        raise ValueError(f"count must be 2 to {len(betas)}, got {count}")
    stride, place, kept = (len(betas) - 1) / (count - 1), 0.0, []
    for _ in range(count):
        kept.append(round(place))
        # summed up, as the authors' code does, which may round otherwise than a product
        place += stride
    steps = torch.tensor(kept, device=betas.device)
    remaining = (1 - betas).cumprod(0)[steps]
    before = torch.cat((remaining.new_ones(1), remaining[:-1]))
    return 1 - remaining / before, steps


class Diffusion(nn.Module):
    """Training loss and sampling of a process with given steps.

    Args:
        betas: (S,) as of :func:`linear_betas`.
        steps: (S,) time that the network is told in each state; None for 0 to S - 1.
        learn_sigma: Whether the network's second half of channels says the variance. Without, it is
            the posterior's, and there is no loss for it.
    """

    def __init__(self, betas: Tensor, steps: Tensor | None = None, learn_sigma: bool = True):
        super().__init__()
        self.learn_sigma = learn_sigma
        betas = betas.double()
        remaining = (1 - betas).cumprod(0)
        before = torch.cat((remaining.new_ones(1), remaining[:-1]))
        variance = betas * (1 - before) / (1 - remaining)
        tables = {
            "steps": torch.arange(len(betas)) if steps is None else steps,
            "betas": betas,
            "remaining": remaining,
            # the first step has no variance: it takes that of the second
            "posterior_log_variance": torch.cat((variance[1:2], variance[1:])).log(),
            "mean_of_start": betas * before.sqrt() / (1 - remaining),
            "mean_of_state": (1 - before) * (1 - betas).sqrt() / (1 - remaining),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def __len__(self) -> int:
        return len(self.betas)

    def at(self, table: Tensor, index: Tensor) -> Tensor:
        """Entries of a table for a batch, (B, 1, 1, 1) float32; calculated in float64."""
        return table[index].float()[:, None, None, None]

    def noisy(self, start: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """The state at a step: (B, C, H, W), with (B,) steps and noise like the start."""
        signal, spread = self.remaining.sqrt(), (1 - self.remaining).sqrt()
        return self.at(signal, index) * start + self.at(spread, index) * noise

    def split(self, out: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """What a network returned, as noise and logarithm of the variance."""
        low = self.at(self.posterior_log_variance, index)
        if not self.learn_sigma:
            return out, low.expand_as(out)
        noise, share = out.chunk(2, 1)
        high = self.at(self.betas.log(), index)
        share = (share + 1) / 2
        return noise, share * high + (1 - share) * low

    def start_of(self, state: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """The start that a state comes from, if this is the noise in it."""
        scale, spread = (1 / self.remaining).sqrt(), (1 / self.remaining - 1).sqrt()
        return self.at(scale, index) * state - self.at(spread, index) * noise

    def posterior_mean(self, start: Tensor, state: Tensor, index: Tensor) -> Tensor:
        """Mean of the state before one, if this is the start."""
        of_start, of_state = (self.at(t, index) for t in (self.mean_of_start, self.mean_of_state))
        return of_start * start + of_state * state

    def step(self, out: Tensor, state: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and logarithm of the variance of the state before, and the start that they say."""
        noise, log_variance = self.split(out.float(), index)
        start = self.start_of(state, index, noise)
        return self.posterior_mean(start, state, index), log_variance, start

    def losses(
        self, denoiser: Denoiser, start: Tensor, index: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Per sample, (B,): ``mse`` of the noise and, for a learnt variance, ``vb``, in bits.

        The second is the divergence of the step from the posterior, or the negative logarithm of
        the likelihood at the first step; its gradient reaches the variance alone.
        """
        state = self.noisy(start, index, noise)
        out = denoiser(state, self.steps[index]).float()
        said = self.split(out, index)[0]
        losses = {"mse": (noise - said).square().flatten(1).mean(1)}
        if self.learn_sigma:
            fixed = torch.cat((out.chunk(2, 1)[0].detach(), out.chunk(2, 1)[1]), 1)
            mean, log_variance, _ = self.step(fixed, state, index)
            divergence = _divergence(
                self.posterior_mean(start, state, index),
                self.at(self.posterior_log_variance, index),
                mean,
                log_variance,
            )
            likelihood = -_log_likelihood(start, mean, log_variance / 2)
            bits = torch.where((index == 0)[:, None, None, None], likelihood, divergence)
            losses["vb"] = bits.flatten(1).mean(1) / math.log(2)
        return losses

    @torch.no_grad()
    def sample(self, denoiser: Denoiser, state: Tensor) -> Iterator[Tensor]:
        """States from noise to a sample, one after the other.

        Args:
            denoiser: Of a state (B, C, H, W) and the network's times (B,).
            state: The noise.
        """
        for step in range(len(self) - 1, -1, -1):
            index = torch.full((len(state),), step, device=state.device)
            mean, log_variance, _ = self.step(denoiser(state, self.steps[index]), state, index)
            state = mean
            if step:
                state = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            yield state


def _divergence(mean: Tensor, log_variance: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the second normal distribution from the first, in nats."""
    difference = log_variance - log_variance2
    square = (mean - mean2).square() * (-log_variance2).exp()
    return (difference.exp() + square - 1 - difference) / 2


def _normal_cdf(x: Tensor) -> Tensor:
    """The approximation of the normal distribution's that the authors' loss has."""
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Logarithm of the probability of the bin of x, one of 255 from -1 to 1, open at both ends."""
    centred, sharpness = x - mean, (-log_scale).exp()
    high = _normal_cdf(sharpness * (centred + 1 / 255))
    low = _normal_cdf(sharpness * (centred - 1 / 255))
    bins = torch.where(x < -0.999, high, torch.where(x > 0.999, 1 - low, high - low))
    return bins.clamp(min=1e-12).log()
