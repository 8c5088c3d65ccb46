"""The side of PyTorch of `benchmarks.gpu_training`: transformers' HubertModel, with the head and loss of emojax."""

import gc
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from benchmarks.gpu_training import STEPS, WARM_UP, Clock, Row, Sizes, median_step, report

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run(rows: list[Row], sizes: dict[str, Sizes], clock: Clock, profile: int) -> None:
    """Measures the rows that there is time for."""
    del profile
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    version = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    report("device", {"device": name, "version": version, "tflops": product()})
    torch._dynamo.config.recompile_limit = 64
    for row in rows:
        found = clock.run(row.mode, row.name, lambda row=row: measure(row, sizes[row.model]))
        report("row", row.__dict__ | found)


def product() -> float | None:
    """TFLOP/s of a large matrix product in bfloat16."""
    if DEVICE == "cpu":
        return None
    left, right = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))

    def call(_: int) -> None:
        for _ in range(5):
            left @ right
        torch.cuda.synchronize()

    return round(5 * 2 * 8192**3 / median_step(call)["milliseconds"] / 1e9, 1)


class Model(nn.Module):
    """Encoder and head."""

    def __init__(self, sizes: Sizes, row: Row) -> None:
        super().__init__()
        content = sizes.config(row.attention_dropout)
        content.pop("model_type")
        config = transformers.HubertConfig(**content, attn_implementation="sdpa")
        self.encoder = transformers.HubertModel(config)
        self.encoder.feature_extractor._freeze_parameters()
        self.dense, self.dropout, self.outputs = nn.Linear(sizes.hidden, 128), nn.Dropout(0.1), nn.Linear(128, 3)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Predicts three attributes."""
        states = self.encoder(waveform).last_hidden_state.float()
        return self.outputs(self.dropout(torch.tanh(self.dense(states.mean(dim=1)))))


def ccc_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - CCC over the attributes."""
    means, targets = outputs.mean(0), labels.mean(0)
    covariance = ((outputs - means) * (labels - targets)).mean(0)
    spread = outputs.var(0, unbiased=False) + labels.var(0, unbiased=False) + (means - targets) ** 2
    return (1 - 2 * covariance / (spread + 1e-8)).mean()


def measure(row: Row, sizes: Sizes) -> dict[str, Any]:
    """Times the step of a row."""
    torch._dynamo.reset()
    gc.collect()  # of a row that ended with an error
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = Model(sizes, row).train()
    encoder: Any = model.encoder
    if row.remat == "layers":
        encoder.gradient_checkpointing_enable({"use_reentrant": False})
    if row.mode == "compiled":
        # Layer by layer: the loop over layers has a branch that torch.compile cannot follow.
        for part in (encoder.feature_extractor, encoder.encoder.pos_conv_embed, *encoder.encoder.layers):
            part.compile(dynamic=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": 0.01},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=2e-5, fused=DEVICE == "cuda")
    generator = np.random.default_rng(0)
    batches = [
        (
            torch.as_tensor(generator.integers(-4000, 4000, (row.batch, sizes.samples), np.int16)).to(DEVICE),
            torch.as_tensor(generator.random((row.batch, 3), np.float32)).to(DEVICE),
        )
        for _ in range(WARM_UP + STEPS)
    ]
    autocast = torch.autocast(DEVICE, dtype=torch.bfloat16)

    def step(number: int) -> None:
        samples, labels = batches[number]
        waveform = samples.float() / 2**15
        deviations = waveform - waveform.mean(1, keepdim=True)
        waveform = deviations / torch.sqrt(deviations.square().mean(1, keepdim=True) + 1e-7)
        with autocast:
            outputs = model(waveform)
        loss = ccc_loss(outputs.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    found = median_step(step)
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    return found | {"gibibytes": peak / 2**30}
