"""augment: exact ratios, identities, and a policy that depends on (seed, epoch, index) alone."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from oskdft import config
from oskdft.config import AugmentConfig
from oskdft.speech import audio, augment
from oskdft.speech import noise as noise_module
from oskdft.speech.augment import Augment
from oskdft.speech.noise import noise_files, room_files

RATE = config.SAMPLE_RATE
FULL = AugmentConfig(probability=1.0, clipping=0.5, easing=0.5, white_snr_db=(10.0, 30.0))


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, str]:
    """A MUSAN-like tree whose own path has every category's name in it, and a room corpus."""
    base = tmp_path_factory.mktemp("music") / "speech" / "musan"
    rng = np.random.default_rng(0)
    for category, count, seconds in (("noise", 3, 1.0), ("speech", 9, 4.0), ("music", 2, 0.3)):
        for number in range(count):
            wave = rng.normal(0, 0.1, int(seconds * RATE))
            audio.write(base / category / "noise-source" / f"{number}.wav", wave)
    for number in range(3):
        taps = np.exp(-np.arange(800) / 100) * rng.normal(size=800) * 0.1
        taps[20] = 0.9
        audio.write(base.parent / "rir" / "small_rirs" / "a" / f"{number}.wav", taps)
    audio.write(base.parent / "rir" / "pointsource_noises" / "no.wav", np.ones(9) / 2)
    return {"noise_root": str(base), "rir_root": str(base.parent / "rir")}


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.3, 40.0])
def test_noise_has_exactly_the_ratio_asked_for(snr_db):
    wave, added = noise(0, 3, 16000) * torch.tensor([[1e-3], [1.0], [5.0]]), noise(1, 3, 16000)
    rest = augment.add_noise(wave.double(), added.double(), snr_db) - wave
    measured = 10 * torch.log10(wave.double().square().mean(-1) / rest.square().mean(-1))
    assert (measured - snr_db).abs().max() < 0.01


def test_noise_takes_one_ratio_per_row():
    wave, added = torch.ones(2, 8), torch.ones(2, 8)
    out = augment.add_noise(wave, added, torch.tensor([0.0, 20.0]))
    assert torch.allclose(out[:, 0], torch.tensor([2.0, 1.1]))


def test_silence_stays_finite():
    silent, loud = torch.zeros(1, 100), noise(0, 1, 100)
    assert torch.equal(augment.add_noise(silent, loud, 5.0), silent)
    assert torch.equal(augment.add_noise(loud, silent, 5.0), loud)
    assert torch.equal(augment.reverberate(silent, loud), silent)
    assert torch.equal(augment.clip(silent, 0.5), silent)


@pytest.mark.parametrize("samples,taps,delay", [(1000, 1, 0), (1000, 300, 40), (500, 700, 600)])
def test_a_unit_impulse_is_the_identity_wherever_it_stands(samples, taps, delay):
    wave, rir = noise(0, 2, samples), torch.zeros(1, taps)
    rir[0, delay] = 1.0
    assert torch.allclose(augment.reverberate(wave, rir), wave, atol=1e-6)


def test_rooms_equal_a_convolution_written_out():
    wave, rir = noise(0, 1, 50), torch.tensor([[0.1, 1.0, 0.5, -0.25]])
    wanted = np.convolve(wave[0].numpy(), rir[0].numpy())[1:51]  # the direct sound at time 0
    wanted *= np.sqrt((wave[0].numpy() ** 2).mean() / (wanted**2).mean())
    assert np.allclose(augment.reverberate(wave, rir)[0], wanted, atol=1e-6)


def test_published_bounce_overshoots_and_the_bounded_one_does_not():
    published, bounded = (augment.easing_window("bounce", 10001, b) for b in (False, True))
    assert published.max() > 1.5 and not torch.allclose(published, bounded, atol=0.1)
    assert bounded.min() >= 0 and bounded.max() <= 1
    assert bounded.diff().abs().max() < 2e-3, "the usual curve has no jumps"
    at = [0.2, 0.7]  # by hand: 7.5625 x 0.2 x 0.2; t = 0.7 - 1.5 / 2.75 in the second arc
    t = 0.7 - 1.5 / 2.75
    by_hand = {True: [0.3025, 7.5625 * t * t + 0.75], False: [0.3025, 7.5625 * t * 0.7 + 0.75]}
    for is_bounded, window in ((False, published), (True, bounded)):
        assert [window[int(x * 10000)].item() for x in at] == pytest.approx(
            by_hand[is_bounded], abs=1e-3
        )


@pytest.mark.parametrize("curve", augment.CURVES)
def test_easing_curves_start_at_0_end_at_1_and_agree_but_for_bounce(curve):
    published, bounded = (augment.easing_window(curve, 1001, b) for b in (False, True))
    assert bounded[0] == pytest.approx(0, abs=1e-6) and bounded[-1] == pytest.approx(1, abs=1e-6)
    assert torch.equal(published, bounded) == (curve != "bounce")
    assert augment.ease(torch.ones(1, 1001), bounded, 0.2).aminmax() == (
        pytest.approx(0.2),
        pytest.approx(1),
    )
    with pytest.raises(ValueError, match="choose sine, quad"):
        augment.easing_window("cubik", 9)


def test_speed_moves_the_pitch():
    tone = torch.sin(2 * torch.pi * 400 * torch.arange(2 * RATE) / RATE)[None]
    for factor in (0.9, 1.0, 1.1, 1.25):
        out = augment.change_speed(tone, factor, RATE)
        assert out.shape == (1, RATE)
        assert torch.fft.rfft(out).abs().argmax() == pytest.approx(400 * factor, abs=1)  # 1-Hz bins
    with pytest.raises(ValueError, match="speed factor 3"):
        augment.change_speed(tone, 3.0, RATE)


def test_equaliser_changes_a_tone_by_the_gain_at_its_frequency():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    place = np.log1p(10 * 1000 / 8000) / np.log(11) * 2  # among control points 0, 1, 2
    gain_db = 12 * (0.5 - 0.5 * np.cos(np.pi * place))  # between 0 dB and 12 dB
    out = augment.equalise(tone, torch.tensor([[0.0, 12.0, 0.0]]))
    assert place < 1
    assert out.abs().max() == pytest.approx(10 ** (gain_db / 20), rel=0.01)


def test_defaults_are_the_published_policy(roots):
    policy, times = Augment(AugmentConfig(**roots), seed=1), 20_000
    draws = [policy.describe(1, index) for index in range(times)]
    kinds = Counter(draw.kind for draw in draws)
    assert set(kinds) == {"clean", *augment.MIXES}
    for kind, count in kinds.items():
        share = 0.4 if kind == "clean" else 0.1
        assert abs(count / times - share) < 4 * np.sqrt(share * (1 - share) / times), kind
    for name in ("clip_ratio", "ease"):
        share = np.mean([getattr(draw, name) is not None for draw in draws])
        assert share == pytest.approx(0.6 * 0.3, abs=0.012)
    assert all(draw.white_snr_db is None for draw in draws)


def test_ranges_of_the_published_policy(roots):
    cfg = AugmentConfig(**roots)
    policy = Augment(cfg, seed=2)
    draws = [policy.describe(3, index) for index in range(3000)]
    ranges = {"noise": cfg.noise_snr_db, "speech": cfg.speech_snr_db, "music": cfg.music_snr_db}
    clips = {"noise": {1}, "speech": {3, 4, 5, 6, 7, 8}, "music": {1}}
    for category, (low, high) in ranges.items():
        parts = [part for draw in draws for part in draw.noises if part[0] == category]
        snr = [part[1] for part in parts]
        assert (
            low <= min(snr) < low + 0.1 * (high - low)
            and high - 0.1 * (high - low) < max(snr) <= high
        )
        assert {len(part[2]) for part in parts} == clips[category]
    eased = [draw.ease for draw in draws if draw.ease]
    assert {curve for curve, _, _ in eased} == set(augment.CURVES)
    assert {out for _, out, _ in eased} == {True, False}
    assert all(0.1 <= floor <= 0.3 for _, _, floor in eased)
    assert all(0.5 <= d.clip_ratio <= 0.9 for d in draws if d.clip_ratio is not None)


def test_companions_order_and_threads_change_nothing(roots):
    policy, wave = Augment(dataclasses.replace(FULL, **roots), seed=3), noise(5, 40, 40_000)
    together, before = policy(wave, 2, range(40)), torch.get_num_threads()
    assert len({policy.describe(2, i).kind for i in range(40)}) == len(augment.MIXES)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        fresh = Augment(policy.config, seed=3)
        alone = torch.cat([fresh(wave[i : i + 1], 2, [i]) for i in reversed(range(40))]).flip(0)
        assert torch.equal(alone, together) and torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_epoch_index_and_seed_each_matter(roots):
    policy, wave = Augment(dataclasses.replace(FULL, **roots), seed=3), noise(5, 1, 16_000)
    other = Augment(policy.config, seed=4)
    crops = [policy(wave, 0, [0]), policy(wave, 1, [0]), policy(wave, 0, [1]), other(wave, 0, [0])]
    assert all(not torch.equal(a, b) for i, a in enumerate(crops) for b in crops[:i])
    assert torch.equal(policy(wave, 0, [0]), crops[0])


def test_memory_of_files_is_bounded_and_does_not_change_what_is_heard(roots, monkeypatch):
    cfg, wave = dataclasses.replace(FULL, **roots), noise(5, 30, 16_000)
    kept = Augment(cfg, seed=3)(wave, 0, range(30))
    monkeypatch.setattr(noise_module, "KEPT_BYTES", 70_000)
    seeking = Augment(cfg, seed=3)
    assert torch.equal(seeking(wave, 0, range(30)), kept)
    assert sum(w.nbytes for w in seeking.clips["speech"]._kept.values()) <= 70_000


def test_category_is_the_folder_below_the_root(roots):
    files = noise_files(roots["noise_root"])  # .../music0/speech/musan/
    assert {c: len(names) for c, names in files.items()} == {"noise": 3, "speech": 9, "music": 2}
    assert all(
        name.startswith(f"{c}/noise-source/") for c, names in files.items() for name in names
    )


def test_rooms_leave_the_noises_of_their_corpus_out(roots):
    assert room_files(roots["rir_root"]) == [f"small_rirs/a/{n}.wav" for n in range(3)]


def test_missing_categories_are_left_out_and_said_once(roots, tmp_path, capsys):
    (tmp_path / "noise").symlink_to(Path(roots["noise_root"]) / "noise")
    policy = Augment(AugmentConfig(probability=1.0, noise_root=str(tmp_path)), seed=0)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "augmentation: no files for room, speech, music, speech+music; drawing from none, noise"
    ]
    assert {policy.describe(0, i).kind for i in range(50)} == {"none", "noise"}
    Augment(AugmentConfig(white_snr_db=(10.0, 30.0)), seed=0)
    Augment(AugmentConfig(probability=0.0), seed=0)
    assert capsys.readouterr().err == "", "no corpus was asked for"
    Augment(AugmentConfig(), seed=0)
    assert capsys.readouterr().err.endswith("drawing from none\n"), "the published one needs MUSAN"


def test_bad_folders_are_refused(tmp_path):
    for name in ("noise_root", "rir_root"):
        with pytest.raises(FileNotFoundError, match=f"augment.{name}=.*nowhere is not a folder"):
            Augment(AugmentConfig(**{name: str(tmp_path / "nowhere")}), seed=0)
        with pytest.raises(ValueError, match=f"augment.{name}=.* holds no audio"):
            Augment(AugmentConfig(**{name: str(tmp_path)}), seed=0)
    audio.write(tmp_path / "musan" / "noise" / "a.wav", np.ones(9) / 2)
    with pytest.raises(ValueError, match="has no audio in noise/, speech/ or music/"):
        Augment(AugmentConfig(noise_root=str(tmp_path)), seed=0)
    with pytest.raises(ValueError, match=r"wave is \[2, 9\] with 1 indices; give"):
        Augment(AugmentConfig(), seed=0)(torch.zeros(2, 9), 0, [0])


def test_real_noise_and_rooms(data_root):
    cfg = dataclasses.replace(
        FULL, noise_root=str(data_root / "noise"), rir_root=str(data_root / "rir")
    )
    policy = Augment(cfg, seed=0)
    assert len(policy.clips["noise"]) == 13 and len(policy.rooms) == 33
    out = policy(noise(0, 12, RATE), 0, range(12))
    assert out.isfinite().all() and policy.mixes == ["none", "room", "noise"]


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(roots):
    policy, wave = Augment(dataclasses.replace(FULL, **roots), seed=3), noise(5, 40, 32_000)
    on_gpu = policy(wave.cuda(), 0, range(40)).cpu()
    assert torch.allclose(on_gpu, policy(wave, 0, range(40)), atol=1e-5)
