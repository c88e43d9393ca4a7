"""Code with a mistake in it, as it is found in tutorials: it runs and it reads well. For bug hunts alone.

Nothing in the library calls these. A notebook draws what they do, before it hands such code to the student and asks for
what is wrong with it: `autoencoder` in 01, `forward` in 03, `unet` in 04,
`training` in 05, `sampling` in 06, `guidance` in 07, `ring` and `gan` in 08, `evaluation` in 09, `flows` and
`few_steps` in 10, `latent` and `patches` in 11.
"""
