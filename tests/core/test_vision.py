"""One door to torchvision."""

import pathlib
import re
import subprocess
import sys

import pipeline

PACKAGE = pathlib.Path(pipeline.__file__).parent


def test_no_other_module_imports_torchvision():
    importing = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from)\s+torchvision", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == []


def test_its_transforms_work_beside_any_build_of_pytorch():
    program = (
        "from pipeline.core.vision import torchvision\n"
        "assert torchvision() is torchvision()\n"
        "import torch\n"
        "image = torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8)\n"
        "print(torchvision().transforms.v2.functional.resize(image, [4, 4]).shape)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "torch.Size([3, 4, 4])", answer.stderr
