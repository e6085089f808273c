"""What back-ends and losses from outside the package must satisfy (docs/extend.md).

Each is tried on random numbers before a training starts: a fault would otherwise show after an epoch, or
when the model is loaded again. Trying changes neither the module nor the random numbers of the run.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

FRAMES, VALID = 40, 25  # of the trial; frames behind VALID are padding
CLOSE = 1e-4  # largest difference that padding may make to an embedding


def check_backend(build: Callable[[], nn.Module], size: tuple[int, int, int], name: str) -> None:
    """Refuse a back-end whose embeddings have another shape, depend on padding or are not stored.

    Args:
        build: makes the back-end; called twice. size: L, D and E. name: of the class, for messages.
    Raises:
        ValueError: names what does not hold.

    >>> from oskdft.method.backends import EcapaTdnn
    >>> check_backend(lambda: EcapaTdnn(16, 32, 8, False), (2, 16, 8), "ecapa")
    """
    layers, width, embedding = size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        backend, again = build(), build()
        _require_module(backend, f"model.backend={name}")
        backend.eval()
        again.eval()
        states = torch.randn(layers + 1, 2, FRAMES, width)
        mask = torch.ones(2, FRAMES, dtype=torch.bool)
        mask[1, VALID:] = False
        together = backend(states, mask)
        expected = (2, embedding)
        if not isinstance(together, Tensor) or tuple(together.shape) != expected:
            raise ValueError(
                f"model.backend={name} must give [B, E] = {list(expected)}; it gives {_shape(together)}"
            )
        alone = torch.cat([backend(states[:, :1]), backend(states[:, 1:, :VALID])])
        if not torch.allclose(together, alone, atol=CLOSE, rtol=CLOSE):
            raise ValueError(
                f"model.backend={name} gives a padded utterance another embedding than the utterance "
                "alone, or a random one in evaluation mode; leave out the frames that mask [B, T] excludes"
            )
        again.load_state_dict(backend.state_dict())
        if not torch.allclose(again(states, mask), together, atol=CLOSE, rtol=CLOSE):
            raise ValueError(
                f"model.backend={name} keeps values outside its state_dict, which would be lost when it "
                "is saved; make them parameters or buffers"
            )


def check_kd_loss(kd: nn.Module, student_layers: int, widths: tuple[int, int], name: str) -> None:
    """Refuse a KD loss without ``layers`` and ``floor``, or that does not give one loss per layer.

    Args:
        widths: D of student and teacher. name: of the class, for messages.
    Raises:
        ValueError: names what does not hold.

    >>> from oskdft.method.losses import LastStateMse
    >>> check_kd_loss(LastStateMse(), 1, (8, 8), "mse")
    """
    _require_module(kd, f"loss.kd={name}")
    if not (isinstance(getattr(kd, "layers", None), tuple) and kd.layers and hasattr(kd, "floor")):
        raise ValueError(
            f"loss.kd={name} needs `layers`, a tuple of the teacher states that it reads, and "
            "`floor(frames)`, its least value per layer"
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        student = torch.randn(student_layers + 1, 2, FRAMES, widths[0])
        teacher = torch.randn(len(kd.layers), 2, FRAMES, widths[1])
        losses = copy.deepcopy(kd)(student, teacher)
    if not isinstance(losses, Tensor) or tuple(losses.shape) != (len(kd.layers),):
        raise ValueError(
            f"loss.kd={name} must give one loss per layer, [{len(kd.layers)}]; it gives {_shape(losses)}"
        )


def check_sv_loss(sv: nn.Module, embedding: int, speakers: int, name: str) -> None:
    """Refuse an SV loss that does not give a scalar and logits [B, K].

    Args:
        embedding, speakers: E, K. name: of the class, for messages.
    Raises:
        ValueError: names what does not hold.

    >>> from oskdft.method.losses import CrossEntropy
    >>> check_sv_loss(CrossEntropy(8, 3), 8, 3, "cross_entropy")
    """
    _require_module(sv, f"loss.sv={name}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        label = torch.zeros(4, dtype=torch.long)
        given = copy.deepcopy(sv)(torch.randn(4, embedding), label)
    fits = isinstance(given, tuple) and len(given) == 2
    shapes = [_shape(part) for part in given] if fits else []
    if shapes != [[], [4, speakers]]:
        raise ValueError(
            f"loss.sv={name} must give (loss [], logits [B, K] = [4, {speakers}]); it gives "
            f"{shapes if fits else type(given).__name__}"
        )


def _shape(given: object) -> list[int] | str:
    return list(given.shape) if isinstance(given, Tensor) else type(given).__name__


def _require_module(made: object, named: str) -> None:
    if not isinstance(made, nn.Module):
        raise ValueError(f"{named} must be a torch.nn.Module; it makes a {type(made).__name__}")
