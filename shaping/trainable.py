"""Networks of bonuses as the compiled loops that teach them take them."""

from torch import Tensor, nn

from . import fast_networks
from .fast_learning import Layer, Training
from .networks import Encoder, Layers, Network, SymbolSum, joined


def training(network: nn.Module, *others: Layers) -> Training | None:
    """The parameters of a network, and of layers after it, for the loops of ``fast_lessons``; None where none fits."""
    if not isinstance(network, Network):
        return None
    body, head = network
    assert isinstance(body, Encoder) and isinstance(head, Layers)
    sums = [layer for layer in body.layers if isinstance(layer, SymbolSum)]
    numbers = [layer for layer in body.layers if isinstance(layer, nn.Linear)]
    chains, width = [head.weights, *(other.weights for other in others)], head.weights[0][0].shape[1]
    sizes = [width, *(size for chain in chains for weight, _ in chain for size in weight.shape)]
    sizes += [layer.in_features for layer in numbers]
    if len(sums) + len(numbers) < len(body.layers) or len(sums) > 1 or len(numbers) > 1:
        return None
    if max(sizes) > fast_networks.WIDEST or max(map(len, chains)) >= fast_networks.MOST_LAYERS:
        return None
    if sums and (width % fast_networks.LANES or not sums[0].compiles):
        return None
    first = Layer(numbers[0].weight, numbers[0].bias, width) if numbers else Layer(None, None, width)
    layers = [first, *(Layer(weight, bias, len(bias)) for chain in chains for weight, bias in chain)]
    return Training(layers, sums[0].sums() if sums else None)


def columns(network: nn.Module, leaves: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """What ``training``'s loops are shown of what ``Whitening`` gave: symbols ``[B, S]`` and numbers ``[B, D]``."""
    assert isinstance(network, Network)
    pairs = list(zip(network[0].layers, leaves))  # type: ignore[arg-type]
    symbols = joined([leaf.flatten(1) for layer, leaf in pairs if isinstance(layer, SymbolSum)])
    return symbols, joined([leaf for layer, leaf in pairs if isinstance(layer, nn.Linear)])
