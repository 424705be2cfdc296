"""The parts of a model between pixels and embeddings.

Padding belongs to the weights. SimCLR's TensorFlow networks pad the stem's pooling on the right and below only, BYOL's
haiku network every strided convolution too; in torchvision's ResNet most of the pooled outputs differ. timm's ResNetV2
without pre-activation is ResNet v1.5 with these choices, and with a factor on every channel, which SimCLR's wide
networks need. (torchvision's wide_resnet50_2 widens the bottlenecks only.)

Position embeddings of DINO, and of DINOv2 without registers, are resampled as their authors do: bicubic, not
antialiased, a tenth of a patch too large. timm antialiases, and its features differ from the published ones.

Batch norms are folded into convolutions (`bn_folding`), 1.15 to 1.2 times faster. The folded model must give what the
plain one gives within 1e-4 of its largest output, of dense features at each layer, or it is not used.

Precision (`precision`). `bf16` and `fp16` cast the whole model once, after the batch norms were folded and compared in
float32. Pixels are normalised in float32 and cast; embeddings are float32. Sums of products stay in float32, whatever
the host program lets cuBLAS do.

A view (`augment`) is one resize to the size at which the rest is a rigid motion: no aliasing, one bicubic step, and no
corner beyond the image. Dense features (`dense`) come out of one pass of timm's `forward_intermediates`, which ends
behind the last layer that is asked for.

timm imports torchvision, and through it torch._dynamo. This cannot be deferred: its layers name torchvision's classes.
"""
