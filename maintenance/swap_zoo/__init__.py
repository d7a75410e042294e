"""The upstream zoo with one of our backbones: which methods train a step and predict."""
