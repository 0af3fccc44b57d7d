"""The final network in PyTorch, to compare with, for an interpreter that has PyTorch and need have nothing else."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbc_lib.turns import Turn, serve

if TYPE_CHECKING:
    import torch


def train_in_torch(turn: Turn, sample: str, images: int, network: dict[str, Any], settings: dict[str, Any]) -> None:
    """Train eagerly, an epoch a turn, channels last, all images in memory as floats: the fastest plain loop we know.

    Parameters
    ----------
    turn : Turn
    sample : str
        Folder that `contenders.write_sample` filled.
    images : int
        To learn from in an epoch.
    network, settings : dict
        `experiments.Network` and `experiments.Settings` as plain values.
    """
    if find_spec("torch") is None:
        turn.cannot("PyTorch is not installed")
        return
    import torch

    torch.manual_seed(0)
    *shape, _ = (int(n) for n in (Path(sample) / "shape").read_text().split())
    inputs = _read(Path(sample) / "pixels", torch).reshape(-1, *shape, 3)[:images].float() / 127.5 - 1
    labels = _read(Path(sample) / "labels", torch)[:images].long()
    model = _build(network, shape).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), settings["learning_rate"], eps=1e-7)  # as in Keras
    dense = [layer.weight for layer in model if isinstance(layer, torch.nn.Linear)]
    lose = torch.nn.CrossEntropyLoss()

    def run_epoch() -> float:
        started = time.perf_counter()
        total, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for rows in torch.randperm(images).split(settings["batch_size"]):
            x, y = inputs[rows].permute(0, 3, 1, 2), labels[rows]
            logits = model(x)
            loss = lose(logits, y)
            if network["kernel_l1"] or network["kernel_l2"]:
                absolute = sum(w.abs().sum() for w in dense)
                squared = sum(w.square().sum() for w in dense)
                loss = loss + network["kernel_l1"] * absolute + network["kernel_l2"] * squared
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y)
            correct += (logits.argmax(1) == y).sum()
        return time.perf_counter() - started

    run_epoch()
    turn(torch=torch.__version__, parameters=str(sum(w.numel() for w in model.parameters())))
    while True:
        turn(("seconds", images, run_epoch()))


def _read(path: Path, torch: Any) -> "torch.Tensor":
    return torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)


def _build(network: dict[str, Any], shape: list[int]) -> "torch.nn.Sequential":
    from torch import nn

    (height, width), channels = shape, 3
    layers: list[nn.Module] = []
    for filters in network["convolutions"]:
        layers += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
        height, width, channels = (height - 2) // 2, (width - 2) // 2, filters
    layers.append(nn.Flatten())
    units = height * width * channels
    for wanted in network["dense"]:
        layers += [nn.Linear(units, wanted), nn.ReLU()]
        if network["dropout"]:
            layers.append(nn.Dropout(network["dropout"]))
        units = wanted
    return nn.Sequential(*layers, nn.Linear(units, 5))


if __name__ == "__main__":
    serve({"train_in_torch": train_in_torch})
