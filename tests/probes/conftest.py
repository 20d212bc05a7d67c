import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # `from linear import LinearVAE`
torch.set_num_threads(1)  # tensors this small are not worth the threads' waiting
