"""The networks of the course, one file a family: `blocks` (parts), `autoencoder`, `vae`, `unet`, `classifier`, `dcgan`,
`dit` (a transformer) and `autoencoder_kl` (whose codes are small images)."""
