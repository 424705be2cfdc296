"""Methods that train a U-Net on images and their masks, with a backbone as its encoder.

The epochs are those of fine-tuning (`dvme.training.tuning`): a `Lesson` says what a minibatch costs and what validation
is watched by. `MaskLesson` says Dice of pixels where the other says cross entropies of images. So rates, order,
motions, early end, the best epoch and what a kill leaves are one code. The network is one piece, so its classifier is
what passes logits on. A mask becomes the share of each class in each pixel of the input, a byte each, and is moved as
its image is. Predictions are brought to each mask's own size as logits.
"""
