"""The published checkpoints of the field: a module per architecture, a spec per checkpoint.

File names, key rules, preprocessing and licences are those of the publishers' own repositories, read in
their code. `is_verified=False` marks a spec whose file or key names could not be established that way.
"""

from dvme.backbones.zoo.efficientnet import EFFICIENTNETS
from dvme.backbones.zoo.resnet import RESNETS
from dvme.backbones.zoo.resnet_converted import CONVERTED_RESNETS
from dvme.backbones.zoo.vit import TRANSFORMERS
from dvme.backbones.zoo.vit_dino import DINO_TRANSFORMERS

ZOO = (*RESNETS, *CONVERTED_RESNETS, *TRANSFORMERS, *DINO_TRANSFORMERS, *EFFICIENTNETS)

__all__ = ["ZOO"]
