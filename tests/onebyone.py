"""One adapter trained by itself, by automatic differentiation: what training many is held to."""

import torch

from embarchive import model, train
from embarchive.indices import NO_TARGET


def fit_adapter(arch, backbone, z, chips, recipe, target=NO_TARGET):
    """A region's adapter for stored vectors z float32 (n, dim) of chips in recipe units."""
    adapter = model.neutral_adapter(arch)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in adapter.items()}
    fixed = {name: torch.tensor(value) for name, value in backbone.items()}
    mean, std = fixed["mean"][:, None, None], fixed["std"][:, None, None]
    x, codes = (torch.tensor(chips) - mean) / std, torch.tensor(z)
    optimiser = torch.optim.Adam(params.values(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, recipe.adapter_steps))
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        usual = (train.decode(arch, fixed, params, codes[:64]) - x[:64]).square().mean()
    for _ in range(recipe.adapter_steps):
        pick = torch.randint(0, len(x), (min(64, len(x)),), generator=generator)
        image = train.decode(arch, fixed, params, codes[pick])
        error = (image - x[pick]).square().mean()
        if target:
            error = error + target.weight * train.index_error(target, fixed, image, x[pick])
        drift = sum((p - torch.tensor(adapter[k])).square().sum() for k, p in params.items())
        optimiser.zero_grad()
        (error + usual * drift / len(x)).backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimiser.step()
        schedule.step()
    return {name: value.detach().numpy() for name, value in params.items()}
