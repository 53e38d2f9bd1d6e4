"""What this machine is, and what it offers: `longjing --version --verbose`."""


def describe() -> None:
    """Print Python, PyTorch, the processor, the device, the threads, and whether products are batch-invariant."""
    import platform

    import torch

    from longjing.model.batch_invariance_probe import describe_batch_invariance
    from longjing.model.device import choose_device
    from longjing.planning.machine import name_of

    threads = torch.get_num_threads()
    print(f"python {platform.python_version()}, torch {torch.__version__}")
    print(f"processor: {name_of(torch.device('cpu'))} ({platform.machine()}), {threads} thread(s)")
    print(f"device: {choose_device()}")
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        print(f"float32: {describe_batch_invariance()}")
