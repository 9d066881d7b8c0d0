"""Real torch: torch.save, torch.load and torch.distributed.checkpoint on a state dict.

    torch_checkpoint.py save FILE [--mib N]         torch.save
    torch_checkpoint.py digest FILE [--mmap]        torch.load, prints a digest of names, types and bytes
    torch_checkpoint.py dcp-save DIR [--mib N]      torch.distributed.checkpoint
    torch_checkpoint.py dcp-digest DIR [--mib N]

`save` and `dcp-save` print the digest of what they saved, so equal digests mean equal tensors.
"""

import argparse
import hashlib
import time

import torch
import torch.distributed.checkpoint as dcp

LAYER_BYTES = 32 << 20


def state_dict(mib, seed=7):
    generator = torch.Generator().manual_seed(seed)
    state = {"step": torch.tensor(100), "bias": torch.randn(1000, generator=generator)}
    for layer in range(max(1, (mib << 20) // LAYER_BYTES)):
        state[f"layers.{layer}.weight"] = torch.randint(
            -(2**31), 2**31 - 1, (LAYER_BYTES // 4,), generator=generator, dtype=torch.int32
        ).view(torch.float32).reshape(1024, -1)
    return state


def digest(state):
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["save", "digest", "dcp-save", "dcp-digest"])
    parser.add_argument("path")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--mmap", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    if options.what == "save":
        state = state_dict(options.mib)
        began = time.perf_counter()
        torch.save(state, options.path)
    elif options.what == "digest":
        state = torch.load(options.path, mmap=options.mmap, weights_only=True)
    elif options.what == "dcp-save":
        state = state_dict(options.mib)
        began = time.perf_counter()
        dcp.save(state, checkpoint_id=options.path)
    else:
        state = {name: torch.zeros_like(value) for name, value in state_dict(options.mib).items()}
        began = time.perf_counter()
        dcp.load(state, checkpoint_id=options.path)
    seconds = time.perf_counter() - began
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    print(digest(state), size, f"{seconds:.3f}")


if __name__ == "__main__":
    main()
