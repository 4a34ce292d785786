"""A pretended CUDA device: tensors that say they are on it, are computed on the CPU, and obey a GPU's rules.

    with pretended.cuda() as account:
        backbone = pipeline.load(folder, torch.device("cuda"))
        ...
    print(account.launches.total(), account.waits)

A `Pretended` tensor is an ordinary CPU tensor to C++: its storage, strides, autograd graph and values are real. To
Python it is a CUDA tensor: `device`, `is_cuda`, `to`, `cpu` and `numpy` answer as those of a CUDA tensor do. Everything
that is made on the device "cuda" is such a tensor. So code for a GPU runs on a machine without one, its figures can be
compared with those of the CPU, and these mistakes raise the errors that they raise on a GPU:

- an operation on tensors of both devices, except those that a GPU allows: a number from the CPU, indices from the CPU,
  and `copy_`;
- random numbers on the device from a generator of the CPU, and the other way round;
- `numpy()` of a tensor on the device;
- fused Adam on gradients or moments whose memory layout differs from that of their weight;
- a host that does not wait: what `to("cpu", non_blocking=True)` returned holds garbage until the host has waited.

Five more things are as on a GPU. `torch.autocast("cuda")` casts by CUDA's lists: norms, softmax, losses and upsampling
run in float32. Group norm returns NCHW, whatever layout it was given. The kernels of bitsandbytes get flat memory and
see no strides. A parameter keeps the layout channels_last when its network moves. And the `Account` counts the kernels
that would be launched, the lines at which the host would wait for the device, and the bytes of live tensors.

`torch.compile` and CUDA graphs raise `NotDrivable`: they need a GPU. Other things that the pretended device can't show:
whether CUDA has a kernel for a dtype or a layout, the memory that a kernel uses internally, races between streams,
speed, several devices, and other processes. It works in one thread.
"""

from support.pretended.account import Account
from support.pretended.block import cuda
from support.pretended.devices import CPU, CUDA
from support.pretended.graphs import NotDrivable
from support.pretended.tensor import Pretended

__all__ = ["CPU", "CUDA", "Account", "NotDrivable", "Pretended", "cuda"]
