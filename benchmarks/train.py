"""Training speed: tokens per second of forward, backward and optimiser step, and the share of the machine's
peak.

    python benchmarks/train.py --out benchmarks/results/train.json

Trains on packed random documents with the losses and the optimiser of pretraining, MTP included. The share of
the peak is the FLOPs that the network needs (`planning.flops.training`: attention within documents only, no
optimiser) over what large square products reach here in the same number format.
"""

from time import perf_counter

import torch
from common import build_model, device_and_dtype, fastest, measure_machine, parser, peak_bytes, report, summarise
from machine import synchronise

from longjing.learning.optimizers import muon
from longjing.learning.packing import Packed, pack
from longjing.learning.text_losses import losses
from longjing.model.device import keep_freed_memory
from longjing.planning import flops


def random_batch(rows: int, length: int, document: int, vocabulary: int, seed: int) -> Packed:
    """Rows full of random documents of `document` tokens."""
    generator = torch.Generator().manual_seed(seed)
    count = rows * (length // document)
    documents = torch.randint(vocabulary, (count, document), generator=generator).tolist()
    return pack(documents, rows, length, pad=0)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--length", type=int, default=512, help="tokens of a row")
    options.add_argument("--document", type=int, default=128, help="tokens of a document")
    chosen = options.parse_args()
    device, dtype = device_and_dtype(chosen)
    keep_freed_memory()
    # Weights and optimiser state are float32 either way, as in pretraining.
    model = build_model(chosen, device, torch.float32).train()
    optimizers = muon(model, lr=0.02, adamw_lr=0.003, weight_decay=0.01)
    config = model.config
    packed = random_batch(chosen.rows, chosen.length, chosen.document, config.vocab_size, chosen.seed).to(device)
    tokens = int((packed.segments > 0).sum())
    machine = measure_machine(device, dtype, flops.parameters(config) * 4)

    def step() -> float:
        synchronise(device)
        started = perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = losses(model, packed)
        (loss.next_token + 0.3 * loss.further + 1e-4 * loss.balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()
        model.rebalance(0.001)
        synchronise(device)
        return perf_counter() - started

    step()
    result = summarise([step() for _ in range(chosen.runs)], tokens, peak_bytes(device))
    machine = fastest(machine, measure_machine(device, dtype, flops.parameters(config) * 4))
    per_token = flops.training(config, chosen.document, mtp=True)
    achieved = per_token * result["tokens_per_second"]
    result |= {
        "parameters": flops.parameters(config),
        "active_parameters": flops.active_parameters(config),
        "tokens_per_step": tokens,
        "flops_per_token": per_token,
        "flops_per_second": achieved,
        "share_of_peak": achieved / machine.matmul,
    }
    report("train", chosen, machine, result)


if __name__ == "__main__":
    main()
