"""Saved heads at work on new images.

Masks are those of the mean probability over draws: in the cells of a grid before they go back to pixels, which is
linear, and of U-Nets in pixels. Of one draw they are the study's own to the pixel. An image's size is the one of its
known mask, else of its header, where a file that is named by a cache must still have its content. Features that lack
are extracted beside the cache, as for any head. Blocks of images go through all draws together, and only areas are
held. The mean Dice that is told leaves out images that the head was fitted on; the table has each image's own.
"""
