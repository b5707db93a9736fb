"""Models of mace-torch (Batatia et al. 2022), read from the records of their checkpoints."""

from collections.abc import Sequence

from mlip.errors import CheckpointError
from mlip.interop.mace_torch_description import describe
from mlip.interop.mace_torch_weights import choose, config_of, state_dict_of
from mlip.interop.records import Record
from mlip.models import Potential, build_model


def read_mace_torch(checkpoint: Record, elements: Sequence[str] | None = None, head: str | None = None) -> Potential:
    """The potential that computes what a `MACE` or `ScaleShiftMACE` object computes.

    Args:
        checkpoint: What `read_checkpoint` gives for a `.model` file.
        elements: Chemical symbols to keep; all of the model's by default.
        head: Name of the head to keep, where there are several.

    Returns:
        Ours, in float64 and evaluation mode.

    Raises:
        CheckpointError: the model has what ours have not, lacks an element or the head, or is damaged.
    """
    theirs = describe(checkpoint)
    choice = choose(theirs, None if elements is None else list(elements), head)
    model = build_model(config_of(theirs, choice), "float64")
    try:
        model.load_state_dict(state_dict_of(theirs, choice, model))
    except (KeyError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the weights of the mace-torch model do not fit its hyper-parameters ({reason}); copy the file again."
        ) from None
    model.provenance = {"package": f"mace-torch {checkpoint.class_name}"}
    if len(theirs.heads) > 1:
        model.provenance["head"] = theirs.heads[choice.head]
    return model.eval()
