import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "audit"))  # `from steps import record`
torch.set_num_threads(1)  # tensors this small are not worth the threads' waiting
