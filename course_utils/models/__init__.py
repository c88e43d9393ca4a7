"""The networks of the course, one file a family: `blocks` (parts), `autoencoder`, `vae`, `unet`."""
