"""What the latent is for: a vector to be drawn from N(0, I), or a map that another model will draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import OnDemand, Probe
from whyvae.probes.sampling import TASTE, Sampling

FEWEST_PLACES = 16  # 4 x 4: smaller maps are drawn from N(0, I) by people
SMALLEST_SHARE = 1 / 64  # latent diffusion compresses 12 to 48 times (f4 to f8, c3 to c4)


@dataclass(frozen=True)
class LatentUse(Probe):
    """`places`: positions of a latent map that convolutions read, 1 for a vector. `share`: numbers in z per number in an
    example. `drawn`: calls of the decoder, outside training, on something that was not encoded.
    """

    shape: tuple[int, ...]  # of one example's z
    places: int
    share: float
    drawn: int
    from_encodings: bool = False  # the last draws that were decoded are spread as encodings are, and not as N(0, I)

    @classmethod
    def measure(cls, subject: Any, sampling: OnDemand[Sampling]) -> Self:
        slots, lineage = subject.tape.slots, subject.lineage
        shape = tuple(slots[lineage.z].shape[1:])
        read_by_convolution = any("conv" in op.name for op in subject.tape.ops if lineage.z in op.reads)
        places = math.prod(shape[1:]) if len(shape) > 2 or (len(shape) == 2 and read_by_convolution) else 1
        share = slots[lineage.z].numel / slots[lineage.data].numel if lineage.data >= 0 else math.nan
        return cls(shape, places, share, len(subject.decoded), _from_encodings(sampling()))

    @property
    def for_another_model(self) -> bool:
        """A map as a first stage of another model has it: large, and never drawn by this script.

        Independent draws at every place could not make a picture, whatever the weight of the KL.
        """
        return self.places >= FEWEST_PLACES and self.share >= SMALLEST_SHARE and self.drawn == 0


def _from_encodings(sampling: Sampling | None) -> bool:
    if sampling is None or not sampling.places:
        return False
    last = sampling.places[-1]
    return last.nats > TASTE and last.nats_encodings <= TASTE
