"""The relaxed supernet of T-NAS of the golden meta step: written from its description, on its own, in float64."""

import math

import torch
from torch import nn
from torch.nn import functional

from pipeline.learners.meta_learner import Tasks


def norm(channels, affine=False):
    return nn.BatchNorm2d(channels, affine=affine)


def convolution(c_in, c_out, size, **more):
    return nn.Conv2d(c_in, c_out, size, bias=False, **more)


def depthwise(channels, size, stride, dilation=1):
    """ReLU, depthwise convolution, 1x1 convolution, norm."""
    wide = convolution(
        channels, channels, size, stride=stride, padding=dilation * (size // 2), dilation=dilation, groups=channels
    )
    return nn.Sequential(nn.ReLU(), wide, convolution(channels, channels, 1), norm(channels))


class Nothing(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Halved(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.second = (convolution(channels, channels // 2, 1, stride=2) for _ in range(2))
        self.norm = norm(channels)

    def forward(self, x):
        x = functional.relu(x)
        if x.shape[2] % 2:
            x = functional.pad(x, (1, 0, 1, 0))
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))


def candidates(channels, stride):
    """The eight operations in the order of the alphas' last axis."""
    average = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return nn.ModuleList(
        [
            Nothing(stride),
            nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels)),
            nn.Sequential(average, norm(channels)),
            nn.Identity() if stride == 1 else Halved(channels),
            nn.Sequential(depthwise(channels, 3, stride), depthwise(channels, 3, 1)),
            nn.Sequential(depthwise(channels, 5, stride), depthwise(channels, 5, 1)),
            depthwise(channels, 3, stride, dilation=2),
            depthwise(channels, 5, stride, dilation=2),
        ]
    )


class RelaxedCell(nn.Module):
    def __init__(self, c_before, c_previous, channels, reduction):
        super().__init__()
        self.preprocess = nn.ModuleList(
            nn.Sequential(nn.ReLU(), convolution(c_in, channels, 1), norm(channels)) for c_in in (c_before, c_previous)
        )
        self.sources = [source for node in range(4) for source in range(node + 2)]
        self.edges = nn.ModuleList(
            candidates(channels, 2 if reduction and source < 2 else 1) for source in self.sources
        )

    def forward(self, before, previous, alphas):
        nodes = [layer(x) for layer, x in zip(self.preprocess, (before, previous), strict=True)]
        weights, edge = alphas.softmax(-1), 0
        for node in range(4):
            total = 0
            for source in range(node + 2):
                total = total + sum(
                    w * operation(nodes[source]) for w, operation in zip(weights[edge], self.edges[edge], strict=True)
                )
                edge += 1
            nodes.append(total)
        return torch.cat(nodes[2:], dim=1)


class ToySupernet(nn.Module):
    def __init__(self, channels=4, way=5):
        super().__init__()
        c = channels
        self.stem = nn.Sequential(
            *(convolution(3, 3 * c // 2, 3, padding=1), norm(3 * c // 2, True), nn.MaxPool2d(2), nn.ReLU()),
            *(convolution(3 * c // 2, 3 * c, 3, padding=1), norm(3 * c, True), nn.MaxPool2d(2)),
        )
        self.normal = RelaxedCell(3 * c, 3 * c, c, False)
        self.reduce = RelaxedCell(3 * c, 4 * c, 2 * c, True)
        self.alphas = nn.ParameterDict({"normal": torch.zeros(14, 8), "reduce": torch.zeros(14, 8)})
        self.classifier = nn.Linear(8 * c, way)

    def forward(self, images):
        before = self.stem(images)
        previous = self.normal(before, before, self.alphas["normal"])
        return self.classifier(self.reduce(before, previous, self.alphas["reduce"]).mean(dim=(2, 3)))


@torch.no_grad()
def golden_supernet():
    """With the values that the golden file's rules give."""
    network = ToySupernet().double()
    for name, parameter in network.named_parameters():
        i = torch.arange(parameter.numel(), dtype=torch.float64)
        if name == "alphas.normal":
            values = 0.5 * torch.sin(0.77 * i + 0.1)
        elif name == "alphas.reduce":
            values = 0.5 * torch.sin(1.31 * i + 0.6)
        elif name == "classifier.bias":
            values = 0.05 * torch.sin(1.1 * i + 0.2)
        elif parameter.ndim > 1:
            values = 1.5 / math.sqrt(math.prod(parameter.shape[1:])) * torch.sin(1.7 * i + 0.3)
        else:
            values = torch.full_like(i, float(name.endswith("weight")))
        parameter.copy_(values.view(parameter.shape))
    return network


def golden_images(labels, offset, side=20):
    """float64 (n, 3, side, side)."""
    shape = (len(labels), 3, side, side)
    ramp = torch.sin(0.013 * torch.arange(math.prod(shape), dtype=torch.float64) + offset).view(shape)
    columns = torch.arange(side, dtype=torch.float64)
    stripes = torch.sin((labels[:, None].double() + 1) * 3.1 * columns / side)
    return ramp + stripes[:, None, None, :]


def golden_tasks(n_tasks=2, way=5, n_query=3):
    support, query = torch.arange(way), torch.arange(way).repeat_interleave(n_query)
    return Tasks(
        torch.stack([golden_images(support, 0.5 + task) for task in range(n_tasks)]),
        support.expand(n_tasks, -1),
        torch.stack([golden_images(query, 1.5 + task) for task in range(n_tasks)]),
        query.expand(n_tasks, -1),
    )
