"""Phone recognition from frozen states: a linear CTC probe for each layer, on speakers held out."""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

PHONES = (  # ARPAbet without stress; number 0 of the phone probe is the blank
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH",
    "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V",
    "W", "Y", "Z", "ZH",
)  # fmt: skip
HELD_SPEAKERS = 4  # the phone probe holds one speaker in four out
PHONE_STEPS = 80  # L-BFGS steps of the phone probe
PHONE_DECAY = 5e-3  # weight of the squared norm in the loss of the phone probe
BLANK_LOGIT = 4.0  # at the start: most frames emit no new phone


def phone_numbers(phones: str) -> list[int]:
    """Numbers 1 to 39 of ARPAbet phones; stress digits and position marks (_B, _I, _E, _S) are dropped.

    Raises:
        ValueError: an unknown phone.

    >>> phone_numbers("K_B EH0_I T_E AH")
    [20, 11, 31, 3]
    """
    names = [re.sub(r"\d?(_[BIES])?$", "", phone) for phone in phones.split()]
    unknown = sorted(set(names) - set(PHONES))
    if unknown:
        raise ValueError(f"unknown phone {unknown[0]!r}; the probe reads ARPAbet phones")
    return [1 + PHONES.index(name) for name in names]


def phone_error_rates(
    states: Callable[[np.ndarray], Iterable[Tensor]],
    waves: Sequence[np.ndarray],
    phones: Sequence[str],
    speakers: Sequence,
) -> list[float]:
    """Phone error rate of a linear CTC probe on each layer's frozen frames, on speakers held out.

    The frames of an utterance are standardised with the training frames' mean and deviation. The probe
    starts at zero weights, so that nothing is drawn.

    Args:
        states: as for `probes.pooled`. waves: n utterances [N].
        phones: [n] phones of each utterance with blanks between, see `phone_numbers`.
        speakers: [n]; of their sorted names, every fourth from the first on is held out.
    Returns:
        Edit distance per phone of greedy decoding, one rate per layer; 1 where nothing is decoded,
        more where phones are invented.
    Raises:
        ValueError: fewer than two speakers, or an unknown phone.
    Source: Graves et al. 2006 (CTC); SUPERB, Yang et al. 2021 (phone recognition from frozen states).

    >>> waves = [np.repeat(np.eye(2, dtype=np.float32)[[0, 1, 0]], 4, axis=0)] * 4
    >>> phone_error_rates(lambda wave: [torch.from_numpy(wave)], waves, ["AA B AA"] * 4, list("abcd"))
    [0.0]
    """
    held = np.isin(speakers, np.unique(speakers)[::HELD_SPEAKERS])
    if held.all():
        raise ValueError("one speaker; the phone probe needs one to train on and one to hold out")
    numbers = [torch.tensor(phone_numbers(text)) for text in phones]
    train, test = ([numbers[i] for i in np.flatnonzero(rows)] for rows in (~held, held))
    rates = []
    for layer in zip(*([x.float().cpu() for x in states(wave)] for wave in waves), strict=True):
        seen = torch.cat([layer[i] for i in np.flatnonzero(~held)])
        mean, deviation = seen.mean(0), seen.std(0) + 1e-8
        rows = [(x - mean) / deviation for x in layer]  # each [T, C]
        linear = _fit_phones([rows[i] for i in np.flatnonzero(~held)], train)
        rates.append(_phone_error_rate(linear, [rows[i] for i in np.flatnonzero(held)], test))
    return rates


def _fit_phones(rows: list[Tensor], numbers: list[Tensor]) -> nn.Linear:
    """Linear map from frames to logits of blank and phones, fitted with CTC by L-BFGS."""
    linear = nn.utils.skip_init(nn.Linear, rows[0].shape[1], 1 + len(PHONES))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    linear.bias.data[0] = BLANK_LOGIT
    padded, targets = pad_sequence(rows), torch.cat(numbers)  # [T, n, C], [phones of all]
    frame_counts, phone_counts = ([len(x) for x in each] for each in (rows, numbers))
    ctc = nn.CTCLoss(zero_infinity=True)  # 0 where an utterance has fewer frames than phones
    optimiser = torch.optim.LBFGS(
        linear.parameters(), max_iter=PHONE_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        logs = linear(padded).log_softmax(-1)
        loss = ctc(logs, targets, frame_counts, phone_counts)
        loss = loss + PHONE_DECAY * linear.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return linear


@torch.no_grad()
def _phone_error_rate(linear: nn.Linear, rows: list[Tensor], numbers: list[Tensor]) -> float:
    """Edit distance of greedy decoding over the number of phones."""
    from torchaudio.functional import edit_distance  # heavy

    errors = 0
    for frames_of_utterance, target in zip(rows, numbers, strict=True):
        best = torch.unique_consecutive(linear(frames_of_utterance).argmax(-1))
        errors += edit_distance(target.tolist(), best[best > 0].tolist())
    return errors / sum(map(len, numbers))
