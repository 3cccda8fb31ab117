"""The whole chain from a bundle, with every upstream shut."""
