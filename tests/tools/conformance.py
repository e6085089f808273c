"""Compare the package with numbers that the authors' code produced: python tests/tools/conformance.py DIR

Prints one row per array (name, largest absolute and relative error, tolerance, ok) and exits with 1
if one fails or if DIR holds a fixture that no check here knows. Sizes, seeds and settings come from
each fixture's .json; nothing is tied to one folder. The package computes in float64 here, so that the
rounding of one side only, the fixtures' float32, stands against the tolerances.
"""

import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oskdft.config import LossConfig, ModelConfig, Switches, TrainConfig
from oskdft.evaluation import metrics, scoring
from oskdft.method import backends, encoder, losses, teacher
from oskdft.method.encoder import build_encoder, cnn
from oskdft.method.student import Student
from oskdft.speech import cutting
from oskdft.training import optim

PUBLISHED = Switches(eval_path="half_batch", adapter_residual="doubled", adapter_init="normal")
SINGLE = Switches(eval_path="all", adapter_residual="single", adapter_init="normal")


@dataclass
class Row:
    """One compared array."""

    name: str
    absolute: float
    relative: float
    tolerance: str
    ok: bool


def row(name: str, got, want, atol: float, rtol: float) -> Row:
    """Compare arrays elementwise: |got - want| <= atol + rtol |want|."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return Row(f"{name} shape {got.shape}, not {want.shape}", np.inf, np.inf, "", False)
    error = np.abs(got - want)
    relative = error / np.maximum(np.abs(want), 1e-12)
    ok = bool(np.all(error <= atol + rtol * np.abs(want)))
    return Row(name, error.max(initial=0), relative.max(initial=0), f"{atol:g} + {rtol:g} |x|", ok)


class Fixture:
    """Arrays and settings of one fixture."""

    def __init__(self, path: Path) -> None:
        self.meta = json.loads(path.with_suffix(".json").read_text())
        arrays = path.with_suffix(".npz")
        self.arrays = dict(np.load(arrays)) if arrays.is_file() else {}

    def __getitem__(self, key: str) -> Tensor:
        value = torch.from_numpy(self.arrays[key])
        return value.double() if value.is_floating_point() else value

    def state(self, prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: self[k] for k in self.arrays if k.startswith(prefix)}

    def row(
        self, key: str, got, atol: float | None = None, rtol: float | None = None, name: str = ""
    ) -> Row:
        tolerance = self.meta["tolerance"]
        atol = tolerance["atol"] if atol is None else atol
        rtol = tolerance["rtol"] if rtol is None else rtol
        got = got.detach().numpy() if isinstance(got, Tensor) else got
        return row(name or key, got, self.arrays[key], atol, rtol)


def hf_config(family: str, settings: dict):
    """transformers' configuration of a fixture; masking off unless the fixture says otherwise."""
    return encoder.FAMILIES[family][0](**({"mask_time_prob": 0.0, "layerdrop": 0.0} | settings))


def encoder_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight-norm names of the public checkpoints -> those of present libraries."""
    new = {
        "weight_g": "parametrizations.weight.original0",
        "weight_v": "parametrizations.weight.original1",
    }
    return {re.sub("weight_[gv]$", lambda m: new[m[0]], k): v for k, v in state.items()}


def student_name(name: str) -> str:
    """Parameter name of a released student -> name in `oskdft.method.student.Student`."""
    name = next(iter(encoder_names({name: None})))
    adapter = re.match(r"encoder\.layers\.(\d+)\.\w*adapter\.(.*)", name)
    if adapter:
        part = adapter[2].replace("adapter_layer_norm_before", "norm").replace("_proj", "")
        return f"adapters.{adapter[1]}.{part}"
    return f"encoder.{name}"


def build_student(
    family: str, settings: dict, state: dict, model: ModelConfig, switches: Switches
) -> Student:
    student = Student(hf_config(family, settings), model, switches)
    student.load_state_dict({student_name(k): v for k, v in state.items()})
    return student


def f1_student(f: Fixture) -> Iterator[Row]:
    model = ModelConfig(
        adapter_units=f.meta["adapter"]["bottleneck"], adapter_scale=f.meta["adapter"]["scale"]
    )
    student = build_student("wav2vec2", f.meta["config"], f.state("sd."), model, PUBLISHED).train()
    encoder = student.encoder
    features = encoder.feature_projection.layer_norm(cnn(encoder, f["x"]))
    kd, sv = student.forward_two_paths(f["x"])
    yield f.row("train.extract_features", features)
    yield f.row("train.kd_last_hidden", kd[-1])
    yield f.row("train.sv_last_hidden", sv[-1])
    student.eval()
    for part in ("full", "seg"):
        x = f[f"eval.x_{part}"]
        yield f.row(f"eval.{part}_literal", student(x, distilled_rows=len(x) // 2)[-1])
        yield f.row(f"eval.{part}_all_adapter", student(x)[-1])
    student.train().encoder.encoder.layer_norm = nn.Identity()  # shows the last layer's raw output
    raw = torch.cat(student.forward_two_paths(f["x"]), 1)
    for layer in range(f.meta["config"]["num_hidden_layers"]):
        yield f.row(f"train.layer{layer}_out_pre_final_ln", raw[layer + 1])


def f2_teacher(f: Fixture, family: str) -> Iterator[Row]:
    encoder = build_encoder(hf_config(family, f.meta["config"]))
    encoder.load_state_dict(encoder_names(f.state("sd.")))
    states = teacher.Teacher(encoder)(f["x"])
    yield f.row("hidden_states", states.transpose(0, 1))
    yield f.row("last_hidden_state", states[-1])
    if "extract_features" in f.arrays:
        yield f.row("extract_features", encoder.feature_projection.layer_norm(cnn(encoder, f["x"])))
    if "position_bias_raw" in f.arrays:
        frames = states.shape[2]
        bias = encoder.encoder.layers[0].attention.compute_bias(frames, frames)
        yield f.row("position_bias_raw", bias[..., : f.arrays["position_bias_raw"].shape[-1]])


def f3_paper(f: Fixture) -> Iterator[Row]:
    t = f.meta["tolerance"]
    for i, epoch in enumerate(f.arrays["kd.epochs"].tolist()):
        weight = losses.kd_weight(LossConfig(), epoch, 100)
        x = f["kd.x_s"].requires_grad_()
        loss = weight * losses.LastStateMse()(x[None], f["kd.x_t"][None]).sum()
        (grad,) = torch.autograd.grad(loss, x)
        yield row(
            f"kd.loss[epoch {epoch}]", loss.item(), f.arrays["kd.loss"][i], 1e-12, t["loss_rtol"]
        )
        yield row(
            f"kd.grad_x_s[epoch {epoch}]",
            grad,
            f.arrays["kd.grad_x_s"][i],
            t["grad_atol"],
            t["grad_rtol"],
        )
        yield row(
            f"kd.kd_weight[epoch {epoch}]", weight / 100, f.arrays["kd.kd_weight"][i], 0, 1e-6
        )
    config = LossConfig(margin=f.meta["margin"], scale=f.meta["scale"])
    for name in ("aam_weighted", "aam_unweighted"):
        yield from _aam_rows(
            f, name, config, f"{name}.weight", f"{name}.grad_weight", f"{name}.class_weight"
        )
        alone = [
            _aam(f, name, config, f"{name}.weight", f"{name}.class_weight")(e[None], y[None])[
                0
            ].item()
            for e, y in zip(f[f"{name}.emb"], f[f"{name}.label"], strict=True)
        ]
        yield f.row(f"{name}.loss_per_sample_alone", alone, 1e-6, 1e-4)


def _aam(
    f: Fixture, name: str, config: LossConfig, weight: str, class_weight: str
) -> losses.AamSoftmax:
    loss = losses.AamSoftmax(f.arrays[weight].shape[1], len(f.arrays[weight]), config)
    loss.load_state_dict({"weight": f[weight]})
    loss.class_weight = f[class_weight] if class_weight in f.arrays else None
    return loss


def _aam_rows(
    f: Fixture, name: str, config: LossConfig, weight: str, grad: str, class_weight: str
) -> Iterator[Row]:
    t = f.meta["tolerance"]
    module = _aam(f, name, config, weight, class_weight)
    emb, label = f[f"{name}.emb"].requires_grad_(), f[f"{name}.label"].long()
    loss, cosine = module(emb, label)
    loss.backward()
    yield f.row(f"{name}.loss", loss, 1e-12, t["loss_rtol"])
    yield f.row(f"{name}.grad_emb", emb.grad, t["grad_atol"], t["grad_rtol"])
    yield f.row(grad, module.weight.grad, t["grad_atol"], t["grad_rtol"])
    yield f.row(f"{name}.target_cos", cosine.gather(1, label[:, None])[:, 0], 1e-6, 1e-5)
    if f"{name}.positive_rows" in f.arrays:
        rows = f[f"{name}.positive_rows"]
        rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows.long()
        positive = module(emb[rows], label[rows])[0]
        yield f.row(f"{name}.loss_positive_rows", positive, 1e-12, t["loss_rtol"])


def f3_2024(f: Fixture) -> Iterator[Row]:
    t, meta = f.meta["tolerance"], f.meta["distil"]
    keep = list(meta["target_layer_idx"])
    width = f.arrays["distil.x"].shape[-1]
    x = f["distil.x"].transpose(0, 1).contiguous().requires_grad_()  # [L+1, B, T, D]
    target = f["distil.label"].transpose(0, 1)[keep]
    for cosine, key in ((meta["cos_lambda"], "distil.loss"), (0.0, "distil.loss_l1_only")):
        module = losses.DistilHubertLoss(
            width, target.shape[-1], tuple(keep), cosine, averaged=False
        )
        module.load_state_dict(
            {k.replace("predict_layer", "heads"): v for k, v in f.state("sd_distil.").items()}
        )
        loss = module(x, target).sum()
        yield f.row(key, loss, 1e-12, t["loss_rtol"])
        if key == "distil.loss":
            loss.backward()
            yield f.row("distil.grad_x", x.grad.transpose(0, 1), t["grad_atol"], t["grad_rtol"])
            for name, p in module.named_parameters():
                key = f"distil.grad.{name.replace('heads', 'predict_layer')}"
                yield f.row(key, p.grad, t["grad_atol"], t["grad_rtol"])
    yield from _state_loss(f, "fit", "fit.x", f["fit.label"][:, 1:], f.meta["fit"]["hint_lambda"])
    yield from _state_loss(f, "last", "distil.x", f["distil.label"], None)
    yield from _cross_entropy(f)
    for name in ("aam", "aam_cw", "aam_topk", "aam_topk_cw"):
        aam = f.meta["aam"]
        topk, topk_margin = aam.get(name, (0, 0.0))
        config = LossConfig(
            margin=aam["margin"],
            scale=aam["scale"],
            aam_fallback=False,
            aam_topk=topk,
            aam_topk_margin=topk_margin,
        )
        weight = "cce.class_weight" if name.endswith("cw") else ""
        yield from _aam_rows(f, name, config, f"{name}.fc", f"{name}.grad_fc", weight)


def _state_loss(
    f: Fixture, name: str, x_key: str, target: Tensor, hint: float | None
) -> Iterator[Row]:
    t = f.meta["tolerance"]
    x = f[x_key].requires_grad_()
    states, target = x.transpose(0, 1), target.transpose(0, 1)
    layers = tuple(range(1, len(target) + 1))
    loss = losses.LastStateMse() if hint is None else losses.FitHubertLoss(layers, hint)
    each = loss(torch.cat([states[:1], states]), target)  # hidden state 0 is in no loss
    each.sum().backward()
    yield f.row(f"{name}.loss", each.sum(), 1e-12, t["loss_rtol"])
    yield f.row(f"{name}.grad_x", x.grad, t["grad_atol"], t["grad_rtol"])


def _cross_entropy(f: Fixture) -> Iterator[Row]:
    t, fc = f.meta["tolerance"], f.arrays["cce.fc.weight"]
    module = losses.CrossEntropy(fc.shape[1], len(fc), f["cce.class_weight"])
    module.load_state_dict({"linear.weight": f["cce.fc.weight"], "linear.bias": f["cce.fc.bias"]})
    emb = f["cce.emb"].requires_grad_()
    loss, logits = module(emb, f["cce.label"].long())
    loss.backward()
    yield f.row("cce.loss", loss, 1e-12, t["loss_rtol"])
    yield f.row("cce.logits", logits, t["grad_atol"], t["grad_rtol"])
    yield f.row("cce.grad_emb", emb.grad, t["grad_atol"], t["grad_rtol"])
    yield f.row("cce.grad_fc_weight", module.linear.weight.grad, t["grad_atol"], t["grad_rtol"])
    yield f.row("cce.grad_fc_bias", module.linear.bias.grad, t["grad_atol"], t["grad_rtol"])


def recipe_state(seed: int, recipe: list) -> dict[str, Tensor]:
    """Weights that a fixture gives as a recipe (fixtures README)."""
    state = {}
    for name, shape, low, high in recipe:
        rs = np.random.RandomState((seed * 1000003 + zlib.crc32(name.encode())) % 2**32)
        value = (low + (high - low) * rs.random_sample(shape)).astype(np.float32)
        state[name] = torch.from_numpy(value).double()
    return state


def ecapa_name(name: str) -> str:
    """Parameter name of the released ECAPA-TDNN -> name in `oskdft.method.backends.EcapaTdnn`."""
    for block in (1, 2, 3):
        name = name.replace(f"layer{block}.", f"blocks.{block - 1}.")
    if name.startswith("blocks."):
        for old, new in (("bns.", "norms."), ("bn1", "norm1"), ("bn3", "norm2"), ("conv3", "conv2"),
                         ("se.se.1", "squeeze.0"), ("se.se.3", "squeeze.2")):  # fmt: skip
            name = name.replace(old, new)
        return name
    top = {"layer4": "conv2", "bn1": "norm1", "bn5": "norm2", "fc6": "linear", "bn6": "norm3"}
    head, _, rest = name.partition(".")
    return f"{top.get(head, head)}.{rest}"


def build_ecapa(spec: dict) -> backends.EcapaTdnn:
    net = backends.EcapaTdnn(spec["in_dim"], spec["C"], spec["embedding_size"], mask_input=False)
    given = {ecapa_name(k): v for k, v in recipe_state(spec["recipe_seed"], spec["recipe"]).items()}
    given = {k: v for k, v in given.items() if not k.startswith("softmax_loss")}
    missing, extra = net.load_state_dict(given, strict=False)
    assert not extra and all(k.endswith("num_batches_tracked") for k in missing), (missing, extra)
    return net


def f4a_ecapa(f: Fixture) -> Iterator[Row]:
    for name, spec in f.meta["variants"].items():
        net = build_ecapa(spec).eval()
        states = f[f"{name}.x"].transpose(1, 2)[None]  # [1, B, T, D]
        with torch.no_grad():
            yield f.row(f"{name}.emb_eval", net(states))
            yield f.row(f"{name}.emb_eval_b1", net(states[:, :1]))
            yield f.row(f"{name}.emb_train", net.train()(states))
        state = net.state_dict()
        for key in f.arrays:
            if key.startswith(f"{name}.after_train."):
                yield f.row(key, state[ecapa_name(key.removeprefix(f"{name}.after_train."))])


def f4b_linear(f: Fixture) -> Iterator[Row]:
    meta = f.meta
    net = backends.WeightedSumLinear(
        meta["ssl_hidden_size"], meta["ssl_hidden_layer"], meta["embedding_size"], False
    )
    names = {"w": "weights", "fc1.": "linear.", "bn1.": "norm."}
    state = {
        re.sub(r"^(w$|fc1\.|bn1\.)", lambda m: names[m[0]], k): v for k, v in f.state("sd.").items()
    }
    state["weights"] = state["weights"].flatten()
    net.load_state_dict(state)
    x = f["x"].requires_grad_()
    yield f.row("emb_eval", net.eval()(x.transpose(0, 1)))
    train = net.train()(x.transpose(0, 1))
    (train * f["probe"]).sum().backward()
    yield f.row("emb_train", train)
    yield f.row("grad_w", net.weights.grad.reshape(f.arrays["grad_w"].shape))
    yield f.row("grad_x", x.grad)
    yield f.row("after_train.bn1.running_mean", net.norm.running_mean)
    yield f.row("after_train.bn1.running_var", net.norm.running_var)
    net.load_state_dict(state)
    with torch.no_grad():  # without weighted sum: all weight on the last state
        net.weights.copy_(torch.tensor([0.0] * meta["ssl_hidden_layer"] + [1.0]))
    yield f.row("emb_eval_last_layer_only", net.eval()(x.transpose(0, 1)))


def f4c_tft(f: Fixture) -> Iterator[Row]:
    meta = f.meta
    tuner = backends.AttentionTuner(meta["ssl_hidden_size"], meta["num_hidden_layers"], (0.0, 0.0))
    net = backends.WeightedSumLinear(
        meta["ssl_hidden_size"], meta["num_hidden_layers"], meta["embedding_size"], False, tuner
    )
    rules = ((r"TTT\.tune_layers\.(\d+)\.(down|up)", r"tuner.\2.\1"), (r"TTT\.att_layers", "tuner.attention"),
             ("^fc1", "linear"), ("^bn1", "norm"))  # fmt: skip
    state = {}
    for key, value in f.state("sd.").items():
        for old, new in rules:
            key = re.sub(old, new, key)
        state[key] = value
    net.load_state_dict(state)
    x = f["x"].requires_grad_()
    emb = net.eval()(x.transpose(0, 1))
    (emb * f["probe"]).sum().backward()
    yield f.row("tft_out", tuner(x.transpose(0, 1)))
    yield f.row("emb_eval", emb)
    yield f.row("grad_x", x.grad)
    net.train()
    yield f.row("tft_out_train_no_noise", tuner(x.transpose(0, 1)))
    net.load_state_dict(state)
    yield f.row("emb_train_no_noise", net(x.transpose(0, 1)))


def f5_student(f: Fixture, family: str) -> Iterator[Row]:
    model = ModelConfig(
        adapter_units=f.meta["adapter_size"], adapter_activation=f.meta["adapter_activation"],
        adapter_norm=False, adapter_scale=1.0, adapter_noise=(0.1, 0.5),
    )  # fmt: skip
    student = build_student(
        family, f.meta["config"], f.state(f"sd.{family}."), model, SINGLE
    ).eval()
    x, x3 = f["x"], f["x3"]
    yield f.row("stack_idx", student(x, distilled_rows=len(x) // 2).transpose(0, 1))
    yield f.row("stack_idx", torch.cat(student.forward_two_paths(x[: len(x) // 2]), 1).transpose(0, 1),
                name="stack_idx (two paths)")  # fmt: skip
    yield f.row("stack_all_adapter", student(x).transpose(0, 1))
    yield f.row("stack_idx1_of3", student(x3, distilled_rows=1).transpose(0, 1))


def f6a_eer(f: Fixture) -> Iterator[Row]:
    for name in f.meta["sets"]:
        rate, _ = metrics.eer(f.arrays[f"{name}.scores"], f.arrays[f"{name}.labels"])
        yield f.row(f"{name}.eer", 100 * rate, f.meta["tolerance"]["atol_percent"], 0)


def f6b_tta(f: Fixture) -> Iterator[Row]:
    t, pairs, labels = f.meta["tolerance"], f.arrays["trials"], f.arrays["labels"]
    full, crops = f.arrays["embeddings_full"], f.arrays["embeddings_seg"]
    recipes = {
        "paper": (full, crops),
        "2024": (full, crops),
        "full": (full, None),
        "seg": (None, crops),
    }
    for name, (a, b) in recipes.items():
        scores = scoring.score_trials(a, b, pairs)
        yield f.row(f"scores_{name}", scores, t["score_atol"], 0)
        yield f.row(f"eer_{name}", 100 * metrics.eer(scores, labels)[0], t["eer_atol_percent"], 0)


def f6c_asnorm(f: Fixture) -> Iterator[Row]:
    t = f.meta["tolerance"]
    for part in ("once", "repeated"):
        pairs, labels = f.arrays[f"{part}.trials"], f.arrays[f"{part}.labels"]
        raw = scoring.score_trials(f.arrays["embeddings"], None, pairs)
        yield f.row(f"{part}.raw_scores", raw, t["score_atol"], t["score_rtol"])
        got = scoring.as_norm(
            raw, pairs, f.arrays["embeddings"], f.arrays["cohort"], f.meta["top_n"]
        )
        yield f.row(f"{part}.plain.scores_textbook", got, t["score_atol"], t["score_rtol"])
        if part == "once":  # "repeated" documents the released code's repeated cohort rows
            yield f.row("once.plain.scores", got, t["score_atol"], t["score_rtol"])
            eer = 100 * metrics.eer(got, labels)[0]
            yield f.row("once.plain.eer", eer, t["eer_atol_percent"], 0)


def f6d_segments(f: Fixture) -> Iterator[Row]:
    starts, ends = [], []
    for length in f.arrays["length"].tolist():
        wave = np.arange(length, dtype=np.float64)  # each sample is its own index
        cut = cutting.segments(wave, 48_000, f.arrays["starts"].shape[1])
        starts.append(cut[:, 0])
        ends.append(cut[0, -1])
    yield f.row("starts", np.array(starts), 0, 0)
    yield f.row("last_sample_index_of_seg0", np.array(ends), 0, 0)


def f7_rates(f: Fixture) -> Iterator[Row]:
    rtol = f.meta["tolerance"]["rtol"]
    for name, v in f.meta["variants"].items():
        train = TrainConfig(lr=v["lr"], lr_min=v["lr_min"], epochs=v["T_0"])
        got = [optim.paper_rates(train, int(e)) for e in f.arrays["epoch"]]
        for key, group in (("kd_lr", "body"), ("sv_lr", "sv"), ("adapter_lr", "adapter")):
            yield f.row(f"{name}.{key}", [g[group] for g in got], 0, rtol)
        weights = [losses.kd_weight(LossConfig(), int(e), 100) / 100 for e in f.arrays["epoch"]]
        yield f.row(f"{name}.kd_weight", weights, 1e-15, rtol)


class PaperStep:
    """Models, losses and optimiser of release P as fixture F8 sets them up."""

    def __init__(self, f: Fixture) -> None:
        spec = f.meta["ecapa"]
        encoder = build_encoder(hf_config("wav2vec2", f.meta["config_teacher"]))
        encoder.load_state_dict(encoder_names(f.state("teacher.")))
        self.teacher = teacher.Teacher(encoder)
        self.student = build_student(
            "wav2vec2", f.meta["config_student"], f.state("student."), ModelConfig(), PUBLISHED
        ).train()
        self.backend = build_ecapa(spec).train()
        config = LossConfig(margin=spec["margin"], scale=spec["scale"])
        self.sv = losses.AamSoftmax(spec["embedding_size"], spec["n_class"], config)
        weights = recipe_state(spec["recipe_seed"], spec["recipe"])
        if "softmax_loss.weight" in weights:
            self.sv.load_state_dict({"weight": weights["softmax_loss.weight"]})
        self.sv.class_weight = f["class_weight"]
        self.meta, self.f = f.meta, f

    def start_epoch(self, epoch: int) -> None:
        """A new Adam with this epoch's rates, as the released code does (surprise 6)."""
        m = self.meta
        train = TrainConfig(lr=m["lr"], lr_min=m["lr_min"], epochs=m["T_0"])
        rates = optim.paper_rates(train, epoch)
        groups = optim.parameter_groups(self.student, [self.backend, self.sv])
        self.adam = torch.optim.Adam([g | {"lr": rates[g["name"]]} for g in groups])
        self.weight = losses.kd_weight(LossConfig(), epoch, m["total_epochs"])

    def losses(self) -> tuple[Tensor, Tensor]:
        target = self.teacher(self.f["x1_teacher"], keep=(-1,))
        kd_states, sv_states = self.student.forward_two_paths(self.f["x2_student"])
        kd = self.weight * losses.LastStateMse()(kd_states, target).sum()
        spk, _ = self.sv(self.backend(sv_states), self.f["labels"].long())
        self.adam.zero_grad()
        (kd + spk).backward()
        return kd, spk

    def norms(self) -> list[float]:
        return [
            float(torch.stack([p.grad.norm() for p in g["params"] if p.grad is not None]).norm())
            for g in self.adam.param_groups
        ]


def f8_train_step(f: Fixture) -> Iterator[Row]:
    t, run = f.meta["tolerance"], PaperStep(f)
    run.start_epoch(f.meta["epoch"])
    start = [[p.detach().clone() for p in g["params"]] for g in run.adam.param_groups]
    yield f.row("lr_per_group", [g["lr"] for g in run.adam.param_groups], 0, 1e-6)
    for step in range(4):
        kd, spk = run.losses()
        yield from _f8_losses(f, "loss_", step, kd, spk)
        norm_rtol = t["grad_norm_pass0_rtol"] if step == 0 else t["grad_norm_later_rtol"]
        yield row(
            f"grad_norm_per_group[{step}]",
            run.norms(),
            f.arrays["grad_norm_per_group"][step],
            0,
            norm_rtol,
        )
        if step == 0:
            yield from _f8_gradients(f, run)
        if step < 3:
            run.adam.step()
    moved = [
        float(
            torch.stack(
                [(p.detach() - q).norm() for p, q in zip(g["params"], s, strict=True)]
            ).norm()
        )
        for g, s in zip(run.adam.param_groups, start, strict=True)
    ]
    yield f.row("update_norm_per_group", moved, 0, t["update_norm_rtol"])
    yield from _f8_weights(f, run)
    run = PaperStep(f)
    for step in range(4):
        if step % 2 == 0:
            run.start_epoch(f.meta["epoch"] + step // 2)
        kd, spk = run.losses()
        yield from _f8_losses(f, "two_epochs.loss_", step, kd, spk)
        run.adam.step()


def _f8_losses(f: Fixture, prefix: str, step: int, kd: Tensor, spk: Tensor) -> Iterator[Row]:
    first = f.meta["tolerance"]["loss_step0_rtol"]
    kd_tol = (0, first) if step == 0 else (0, 1e-4)
    spk_tol = (0, first) if step == 0 else (5e-3, 5e-3)
    for name, got, tol in (("kd", kd, kd_tol), ("spk", spk, spk_tol), ("total", kd + spk, spk_tol)):
        if f"{prefix}{name}" in f.arrays:
            yield row(
                f"{prefix}{name}[{step}]", got.item(), f.arrays[f"{prefix}{name}"][step], *tol
            )


def _f8_gradients(f: Fixture, run: PaperStep) -> Iterator[Row]:
    named = dict(run.student.named_parameters())
    for key in f.arrays:
        if key.startswith("student_grad0.") and "k_proj.bias" not in key:
            got = named[student_name(key.removeprefix("student_grad0."))].grad
        elif key == "ecapa_grad0.softmax_loss.weight":
            got = run.sv.weight.grad
        elif key.startswith("ecapa_grad0."):
            got = run.backend.get_parameter(ecapa_name(key.removeprefix("ecapa_grad0."))).grad
        else:
            continue
        yield f.row(key, got, 3e-4 * np.abs(f.arrays[key]).max(), 0)


def _f8_weights(f: Fixture, run: PaperStep) -> Iterator[Row]:
    rates = {
        name: lr for name, lr in zip(optim.GROUPS, f.arrays["lr_per_group"].tolist(), strict=True)
    }
    for name, p in f.state("student_after.").items():
        if "k_proj.bias" in name:
            continue  # zero gradient up to rounding: Adam turns it into noise of size lr
        grad = f.arrays[f"student_grad0.{name}"]
        clear = np.abs(grad) > 1e-3 * np.abs(grad).max()
        got = run.student.get_parameter(student_name(name)).detach().numpy()
        lr = rates["adapter" if "sv_adapter" in name else "body"]
        yield row(f"student_after.{name}", got[clear], p.numpy()[clear], 0.3 * lr, 0)


def f9_sizes(f: Fixture) -> Iterator[Row]:
    from oskdft.lessons import costs

    sizes = {s["name"]: s["parameters"] for s in costs.sizes()["parts"]}
    want = f.meta["parameters"]
    base = want["base"]
    expected = {
        "XLSR-53 teacher": want["xlsr53_teacher"], "ECAPA-TDNN C=512": want["ecapa_C512_192"],
        "ECAPA-TDNN C=1024": want["ecapa_C1024"], "AAM classifier 5994 x 192": want["aam_5994x192"],
        "XLSR-53 student, 4 layers": want["student_4"]["without_adapters"],
        "XLSR-53 adapters": want["student_4"]["adapters"],
        "HuBERT-base teacher": base["hubert-base"]["teacher"],
        "HuBERT-base student, 2 layers": base["hubert-base"]["student2"],
        "HuBERT-base adapters": base["hubert-base"]["adapters_2x64_2024"],
        "WavLM-base+ teacher": base["wavlm-base-plus"]["teacher"],
        "WavLM-base+ student, 2 layers": base["wavlm-base-plus"]["student2"],
        "Linear back-end": base["hubert-base"]["linear_backend_192"],
    }  # fmt: skip
    for name, count in expected.items():
        yield row(f"parameters: {name}", sizes[name], count, 0, 0)


CHECKS = {
    "F1_student_paper": f1_student,
    "F2_teacher_wav2vec2_stable": lambda f: f2_teacher(f, "wav2vec2"),
    "F2_teacher_hubert": lambda f: f2_teacher(f, "hubert"),
    "F2_teacher_wavlm": lambda f: f2_teacher(f, "wavlm"),
    "F3_losses_paper": f3_paper,
    "F3_losses_2024": f3_2024,
    "F4a_ecapa_paper": f4a_ecapa,
    "F4b_linear_classifier": f4b_linear,
    "F4c_tft": f4c_tft,
    "F5_student_hubert": lambda f: f5_student(f, "hubert"),
    "F5_student_wavlm": lambda f: f5_student(f, "wavlm"),
    "F6a_eer": f6a_eer,
    "F6b_tta_scores": f6b_tta,
    "F6c_asnorm": f6c_asnorm,
    "F6d_segments": f6d_segments,
    "F7_learning_rates": f7_rates,
    "F8_train_step": f8_train_step,
    "F9_sizes_and_times": f9_sizes,
}


def fixture_names(folder: Path) -> list[str]:
    """Names of all fixtures in a folder; none at all is an error, not a success."""
    names = (
        sorted({p.stem for p in folder.iterdir() if p.suffix in (".npz", ".json")})
        if folder.is_dir()
        else []
    )
    if not names:
        raise ValueError(f"{folder} holds no fixtures (.json with .npz)")
    return names


def check(folder: Path, name: str) -> list[Row]:
    """All rows of one fixture; an unknown one is a failing row."""
    if name not in CHECKS:
        return [Row(f"unknown fixture {name}", np.inf, np.inf, "", False)]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return list(CHECKS[name](Fixture(folder / name)))
    finally:
        torch.set_default_dtype(default)


def main() -> int:
    """Print the table; 0 when every row holds."""
    if len(sys.argv) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    failed = total = 0
    for name in fixture_names(folder):
        print(f"\n{name}")
        for r in check(folder, name):
            total, failed = total + 1, failed + (not r.ok)
            print(
                f"  {'ok  ' if r.ok else 'FAIL'} {r.name:62} {r.absolute:9.2e} {r.relative:9.2e}  {r.tolerance}"
            )
    print(f"\n{total - failed} of {total} arrays agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
