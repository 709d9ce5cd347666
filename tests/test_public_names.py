"""What `import reticent` promises."""

import ast
import subprocess
import sys
from pathlib import Path

import reticent


def test_every_public_name_is_there_and_typed():
    assert len(reticent.__all__) <= 26
    for name in reticent.__all__:
        assert getattr(reticent, name) is not None
    tree = ast.parse(Path(reticent.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == reticent._WHERE


def test_importing_it_is_light():
    code = "import sys, reticent; assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
