"""Methods that train a U-Net on images and their masks, with a backbone as its encoder."""
