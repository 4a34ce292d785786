"""Ways in which a method can leave a mess behind: name -> (what it does to its harness, a word of the message)."""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch.nn.utils import parametrizations, parametrize
from torch.overrides import TorchFunctionMode

import bench.backbones.sampler
import metrics
from bench.training.harness import Harness

Leak = Callable[[Harness], object]
KEPT: list[Any] = []  # what must outlive the method, as an attribute of a class would


def nothing(*args: Any, **named: Any) -> Any:
    """A stand-in for a function that was patched."""
    return torch.zeros(())


def convolution(harness: Harness) -> Any:
    return harness.unet.conv_in


def attention(harness: Harness) -> Any:
    return next(module for module in harness.unet.modules() if isinstance(module, Attention))


def pipeline(harness: Harness) -> Any:
    return harness._backbone.pipeline


def zero_output(module: Any, inputs: Any, output: Any) -> Any:
    return output * 0


def wrapped_forward(harness: Harness) -> None:
    forward = harness.unet.forward

    def quiet(*args: Any, **named: Any) -> Any:
        return tuple(0 * one for one in forward(*args, **named))

    harness.unet.forward = quiet


def other_processor(harness: Harness) -> None:
    class Other(AttnProcessor):
        pass

    harness.unet.set_attn_processor(Other())


def replaced_layer(harness: Harness) -> None:
    layer = convolution(harness)
    harness.unet.conv_in = torch.nn.Sequential(layer)


def other_class(harness: Harness) -> None:
    class Other(torch.nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 0

    convolution(harness).__class__ = Other


def function_mode(harness: Harness) -> None:
    class Halved(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    KEPT.append(Halved())
    KEPT[-1].__enter__()


def entered(context: Any) -> None:
    KEPT.append(context)
    context.__enter__()


def adapter(harness: Harness) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=1, target_modules=["to_q"]), harness.unet)


def background(harness: Harness) -> None:
    def work() -> None:
        time.sleep(3)

    threading.Thread(target=work, name="background", daemon=True).start()


def code(harness: Harness) -> None:
    type(attention(harness)).get_attention_scores.__code__ = (lambda self, *args: args[0]).__code__


def undeclared(harness: Harness) -> None:
    """Through `.data`, of which autograd's counters know nothing."""
    harness.unet.conv_out.bias.data.add_(1)


LEAKS: dict[str, tuple[Leak, str]] = {
    "forward": (wrapped_forward, "unet.forward"),
    "forward of a layer": (lambda h: setattr(convolution(h), "forward", lambda x: x * 0), "unet.conv_in.forward"),
    "forward of the text encoder": (lambda h: setattr(pipeline(h).text_encoder, "forward", nothing), "text_encoder."),
    "decoder": (lambda h: setattr(pipeline(h).vae, "decode", nothing), "vae.decode"),
    "call": (lambda h: setattr(h.unet, "_call_impl", nothing), "unet._call_impl"),
    "encode_prompt": (lambda h: setattr(pipeline(h), "encode_prompt", nothing), "encode_prompt"),
    "embed": (lambda h: setattr(h._backbone, "embed", nothing), "backbone.embed"),
    "forward of a class": (lambda h: setattr(type(h.unet), "forward", nothing), "UNet2DConditionModel.forward"),
    "call of a class": (lambda h: setattr(Attention, "__call__", nothing), "Attention.__call__"),
    "call of a processor": (lambda h: setattr(AttnProcessor, "__call__", nothing), "AttnProcessor.__call__"),
    "call of all modules": (lambda h: setattr(torch.nn.Module, "__call__", nothing), "Module.__call__"),
    "code": (code, "get_attention_scores"),
    "processors": (other_processor, "processor"),
    "attribute of a processor": (lambda h: setattr(attention(h).processor, "scale", 0), "scale"),
    "layer": (replaced_layer, "unet.conv_in"),
    "added layer": (lambda h: h.unet.add_module("more", torch.nn.Identity()), "unet.more"),
    "class of a layer": (other_class, "conv_in"),
    "order of layers": (lambda h: h.unet._modules.update(conv_in=h.unet._modules.pop("conv_in")), "order"),
    "forward hook": (lambda h: convolution(h).register_forward_hook(zero_output), "hook"),
    "forward pre-hook": (lambda h: h.unet.register_forward_pre_hook(lambda m, a: a), "hook"),
    "backward hook": (lambda h: h.unet.register_full_backward_hook(lambda m, a, b: None), "hook"),
    "hook of the state dict": (lambda h: h.unet.register_state_dict_post_hook(lambda *a: None), "hook"),
    "hook of all modules": (lambda h: torch.nn.modules.module.register_module_forward_hook(zero_output), "hook"),
    "hook of a parameter": (lambda h: next(iter(h.trained.values())).register_hook(lambda g: g * 0), "hook"),
    "parametrization": (
        lambda h: parametrize.register_parametrization(convolution(h), "weight", torch.nn.Identity()), "conv_in",
    ),
    "weight norm": (lambda h: parametrizations.weight_norm(convolution(h)), "conv_in"),
    "adapter": (adapter, "to_q"),
    "buffer": (lambda h: h.unet.register_buffer("more", torch.zeros(1)), "unet.more"),
    "contents of a buffer": (lambda h: pipeline(h).scheduler.alphas_cumprod.mul_(0.5), "alphas_cumprod"),
    "parameter": (lambda h: setattr(convolution(h), "bias", torch.nn.Parameter(torch.zeros(16))), "conv_in.bias"),
    "undeclared parameter": (undeclared, "conv_out.bias"),
    "weights of the decoder": (lambda h: pipeline(h).vae.decoder.conv_out.bias.data.add_(1), "decoder.conv_out.bias"),
    "memory of a parameter": (
        lambda h: setattr(h.unet.conv_out.bias, "data", torch.ones_like(h.unet.conv_out.bias)), "conv_out.bias",
    ),
    "dtype": (lambda h: pipeline(h).vae.to(torch.float64), "vae."),
    "rows of a weight": (
        lambda h: h.unet.time_embedding.linear_1.weight.data.copy_(h.unet.time_embedding.linear_1.weight.data.flip(0)),
        "linear_1.weight",
    ),
    "requires_grad": (lambda h: h.unet.conv_out.bias.requires_grad_(True), "conv_out.bias"),
    "gradient": (lambda h: setattr(pipeline(h).vae.decoder.conv_out.bias, "grad", torch.zeros(3)), "gradient"),
    "training mode": (lambda h: h.unet.train(), "training changed"),
    "training mode of the text encoder": (lambda h: pipeline(h).text_encoder.train(), "training changed"),
    "scheduler's config": (
        lambda h: pipeline(h).scheduler.register_to_config(prediction_type="v_prediction"), "scheduler",
    ),
    "scheduler": (lambda h: setattr(pipeline(h), "scheduler", h.noise_scheduler), "pipeline.scheduler"),
    "tokenizer": (lambda h: pipeline(h).tokenizer.add_tokens(["golden"]), "tokenizer"),
    "length of texts": (lambda h: setattr(pipeline(h).tokenizer, "model_max_length", 5), "model_max_length"),
    "protocol": (lambda h: object.__setattr__(h.task, "forget", ("nothing",)), "task.forget"),
    "attention of torch": (lambda h: setattr(F, "scaled_dot_product_attention", nothing), "scaled_dot_product"),
    "function of torch": (lambda h: setattr(torch, "randn", nothing), "torch.randn"),
    "method of tensors": (lambda h: setattr(torch.Tensor, "cpu", nothing), "Tensor.cpu"),
    "function of numpy": (lambda h: setattr(np, "mean", nothing), "numpy.mean"),
    "function of diffusers": (lambda h: setattr(diffusers.DDIMScheduler, "step", nothing), "DDIMScheduler.step"),
    "function of Lethe": (lambda h: setattr(bench.backbones.sampler, "sample", nothing), "sampler.sample"),
    "builtin of Lethe": (lambda h: setattr(bench.backbones.sampler, "range", nothing), "sampler.range"),
    "method of Lethe": (lambda h: setattr(Harness, "noised", nothing), "Harness.noised"),
    "class of Lethe's metrics": (lambda h: setattr(metrics.Metric, "compute", nothing), "Metric.compute"),
    "module": (lambda h: sys.modules.update({"numpy.linalg": types.ModuleType("numpy.linalg")}), "numpy.linalg"),
    "clock": (lambda h: setattr(time, "perf_counter", lambda: 0.0), "time.perf_counter"),
    "default dtype": (lambda h: torch.set_default_dtype(torch.float64), "default dtype"),
    "default device": (lambda h: torch.set_default_device("meta"), "default device"),
    "gradients": (lambda h: torch.set_grad_enabled(False), "gradients"),
    "inference mode": (lambda h: entered(torch.inference_mode()), "inference mode"),
    "anomaly": (lambda h: torch.autograd.set_detect_anomaly(True), "anomaly"),
    "deterministic": (lambda h: torch.use_deterministic_algorithms(True), "deterministic"),
    "cudnn": (lambda h: setattr(torch.backends.cudnn, "benchmark", True), "cudnn.benchmark"),
    "TF32": (lambda h: setattr(torch.backends.cuda.matmul, "allow_tf32", True), "allow_tf32"),
    "matmul precision": (lambda h: torch.set_float32_matmul_precision("medium"), "matmul precision"),
    "kernels": (lambda h: torch.backends.cuda.enable_math_sdp(False), "math_sdp"),
    "tiny numbers": (lambda h: torch.set_flush_denormal(True), "tiny numbers"),
    "threads": (lambda h: torch.set_num_threads(2), "number of threads"),
    "autocast": (lambda h: entered(torch.autocast("cpu", torch.bfloat16)), "autocast"),
    "function mode": (function_mode, "mode of torch functions"),
    "saved tensors": (lambda h: entered(torch.autograd.graph.saved_tensors_hooks(nothing, nothing)), "saved tensors"),
    "numpy's errors": (lambda h: np.seterr(all="raise"), "numpy"),
    "environment": (lambda h: os.environ.update(CUBLAS_WORKSPACE_CONFIG=":0:0"), "CUBLAS_WORKSPACE_CONFIG"),
    "working folder": (lambda h: os.chdir("/"), "working folder"),
    "thread": (background, "'background' running"),
}  # fmt: skip
