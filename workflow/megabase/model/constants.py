"""What a layer computes from its weights alone: once, not in every pass, where nothing is trained.

A kept value belongs to the versions of the weights that it was made of; weights that were changed in place or
replaced make it anew, so that keeping changes no prediction. Torch counts no versions of changes through
`.data` (after these, call `keep` again) nor of weights that were made in inference mode (nothing is kept of
them).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class Constants:
    """One value that follows from weights, kept between passes without gradients while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.key: Hashable = None
        self.value: Tensor | None = None

    def keep(self, on: bool) -> None:
        """Keep values from now on, or no more; what was kept is forgotten."""
        self.on, self.key, self.value = on, None, None

    def get(
        self, key: tuple[Hashable, ...], weights: tuple[Tensor, ...], make: Callable[[], Tensor]
    ) -> Tensor:
        """make(), or what it gave for the same `key` and the same weights; made every time with gradients."""
        if not self.on or torch.is_grad_enabled() or any(w.is_inference() for w in weights):
            return make()
        known = (*key, *((w.data_ptr(), w._version) for w in weights))
        if self.value is None or self.key != known:
            self.key, self.value = known, make()
        return self.value

    def __deepcopy__(self, memo: dict) -> Constants:
        """Of a copied model: nothing kept yet."""
        copied = Constants()
        copied.keep(self.on)
        return copied
