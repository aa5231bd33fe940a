"""Writes models/init.safetensors. Run as `python -m stages.backbone` in a study's folder."""

from stages import params, runtime
from stages.backbone.schema import Params
from stages.shell.running import run


def main() -> None:
    """Read the parameters, make the starting weights, write them."""
    chosen = params.load(Params)
    from stages.backbone import network, weights

    runtime.exact(threads=1, precision="fp32")
    model = weights.starting_weights(len(chosen.classes), chosen.seed, chosen.backbone)
    meta = network.Meta(chosen.classes, chosen.image_size, chosen.backbone.mean, chosen.backbone.std)
    network.save("models/init.safetensors", model, meta)


if __name__ == "__main__":
    run("backbone", main)
