"""Running statistics taken anew, against plain sums."""

import torch
from torch import nn

from pipeline.evaluation.batch_norm import take_statistics


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5))


def batches(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 + 2 * torch.randn(8, 3, 6, 6, generator=generator) for _ in range(n)]


def test_means_and_variances_are_the_averages_over_the_batches():
    net, seen = network(), batches(4)
    take_statistics(net, seen)
    first = [net[0](batch) for batch in seen]
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in first]).mean(0)
    variances = torch.stack([x.var(dim=(0, 2, 3), unbiased=True) for x in first]).mean(0)
    torch.testing.assert_close(net[1].running_mean, means)
    torch.testing.assert_close(net[1].running_var, variances)


def test_what_stood_there_before_does_not_matter_and_weights_stay():
    fresh, used = network(), network()
    used[1].running_mean.fill_(100.0)
    used[4].running_var.fill_(9.0)
    before = [parameter.clone() for parameter in used.parameters()]
    for net in (fresh, used):
        take_statistics(net, batches(3))
        assert not net.training and {net[1].momentum, net[4].momentum} == {0.1}
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(used.state_dict()[name], value, msg=name)
    assert all(torch.equal(a, b) for a, b in zip(before, used.parameters(), strict=True))
