"""VDSR (Kim et al. 2016), reproduced: the network, its training, the paper's protocol."""

from .config import TrainConfig
from .data import load_images
from .evaluate import evaluate
from .export import export_onnx
from .imresize import imresize
from .model import SRCNN, VDSR, from_state_dict, load_matconvnet, receptive_field
from .networks import Ensemble
from .runs import Run, train, train_all
from .upscale import load_pretrained, upscale, upscale_file

__version__ = "0.1.0"
__all__ = [
    "SRCNN",
    "VDSR",
    "Ensemble",
    "Run",
    "TrainConfig",
    "evaluate",
    "export_onnx",
    "from_state_dict",
    "imresize",
    "load_images",
    "load_matconvnet",
    "load_pretrained",
    "receptive_field",
    "train",
    "train_all",
    "upscale",
    "upscale_file",
]
